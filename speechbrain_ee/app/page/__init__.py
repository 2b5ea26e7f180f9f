# SPDX-License-Identifier: Apache-2.0
"""What a browser runs: the page's HTML, style and JavaScript modules."""
