# SPDX-License-Identifier: Apache-2.0
"""Quantised graphs give the same numbers on every CPU."""

import numpy as np
import pytest

from speechbrain_ee.export.quantize import quantize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

LARGEST_ACTIVATION, LARGEST_SUM = 255, 2**15 - 1


def test_sums_of_two_products_fit_in_16_bits():
    """x86 CPUs without VNNI add two products of an activation and a weight in 16 bits."""
    weight = np.random.default_rng(0).standard_normal((64, 32), dtype=np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "product",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", 64])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", 32])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    data = quantize(model.SerializeToString())
    assert data == quantize(model.SerializeToString())
    quantised = onnx.load_from_string(data)
    (found,) = [one for one in map(onnx.numpy_helper.to_array, quantised.graph.initializer) if one.shape == (64, 32)]
    assert found.dtype == np.int8
    assert 60 <= np.abs(found.astype(int)).max() <= LARGEST_SUM // (2 * LARGEST_ACTIVATION)
