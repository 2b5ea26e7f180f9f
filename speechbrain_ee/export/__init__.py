# SPDX-License-Identifier: Apache-2.0
"""Export trained models: ONNX graphs per segment and exit for ``ee_runtime``, and truncated checkpoints."""
