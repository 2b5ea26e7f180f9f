# SPDX-License-Identifier: Apache-2.0
"""The embedded default corpus: espeak-ng speaks a small grammar, and part of it is made hard to hear."""
