# SPDX-License-Identifier: Apache-2.0
"""The matrix product is a valid graph, and its rate is that of the fastest product."""

from itertools import accumulate

import numpy as np
import pytest

from ee_runtime.bench.matrix_product import MatrixProduct, product_graph
from ee_runtime.sessions import make_session

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("size", [3, 200])
def test_the_graph_is_valid_and_multiplies(size):
    graph = product_graph(size)
    onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
    a, b = np.random.default_rng(1).standard_normal((2, size, size), dtype=np.float32)
    (product,) = make_session(graph, 1).run(None, {"a": a, "b": b})
    np.testing.assert_allclose(product, a @ b, rtol=1e-4, atol=1e-4)


def test_the_fastest_product_counts():
    clock = accumulate([0.0, 0.5, 0.0, 0.25, 0.0, 1.0]).__next__
    product = MatrixProduct(1, size=10, clock=clock)
    for _ in range(3):
        product.time()
    assert product.gflops == pytest.approx(2 * 10**3 / 0.25 / 1e9)
