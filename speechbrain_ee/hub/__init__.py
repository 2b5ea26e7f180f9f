# SPDX-License-Identifier: Apache-2.0
"""Publish a trained model: bundles, model cards, and the HuggingFace Hub."""
