# SPDX-License-Identifier: Apache-2.0
"""The synthetic default corpus: sentences of a small grammar, spoken by espeak-ng, some with noise or reverberation."""
