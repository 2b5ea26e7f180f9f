# SPDX-License-Identifier: Apache-2.0
"""A page that listens: a static site that runs an exported model in the browser, offline."""
