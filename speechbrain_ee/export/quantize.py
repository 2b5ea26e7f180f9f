# SPDX-License-Identifier: Apache-2.0
"""Quantise graphs to int8: weights per channel, activations dynamically."""

import logging
import tempfile
from pathlib import Path

INSTALL = 'int8 needs onnx and onnxruntime: pip install "speechbrain_ee[onnx]"'


def quantize(graph: bytes) -> bytes:
    """Quantise the matrix products of a graph whose second factor is a weight.

    Each column of a weight has its own scale. Weights have 7 of the 8 bits: x86 CPUs without VNNI add two products of
    8-bit numbers in 16 bits, and the sum would saturate. Scales of activations are computed for every input, so no
    calibration audio is needed (see also :func:`~speechbrain_ee.export.pretrained_forms.scale_rows`). Products of two
    activations (attention scores) and convolutions stay in float32.

    Arguments
    ---------
    graph : bytes
        ONNX graph in float32.

    Returns
    -------
    bytes
        The quantised graph.

    Raises
    ------
    ImportError
        If onnx or onnxruntime is not installed.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        raise ImportError(INSTALL) from None
    logger = logging.getLogger()
    before, level = onnx.load_from_string(graph), logger.level
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        logger.setLevel(logging.ERROR)  # onnxruntime advises on the root logger
        try:
            quantize_dynamic(
                before,
                path,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                reduce_range=True,
                extra_options={"MatMulConstBOnly": True},
            )
        finally:
            logger.setLevel(level)
        return path.read_bytes()
