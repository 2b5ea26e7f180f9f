# SPDX-License-Identifier: Apache-2.0
"""Use a trained model: speech in, text and the exit taken out."""
