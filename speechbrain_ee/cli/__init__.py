# SPDX-License-Identifier: Apache-2.0
"""The command ``speechbrain-ee``: one file per subcommand."""
