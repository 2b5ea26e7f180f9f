# SPDX-License-Identifier: Apache-2.0
"""CTC decoders: from the output of an exit to text."""
