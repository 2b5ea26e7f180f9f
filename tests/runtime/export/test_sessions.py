# SPDX-License-Identifier: Apache-2.0
"""Sessions are made when a graph is first run; a broken graph is one line."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from ee_runtime.export_folder import ExportError, GraphFile
from ee_runtime.sessions import Graph

onnx = pytest.importorskip("onnx")


def write(folder, data):
    (folder / "graph.onnx").write_bytes(data)
    return GraphFile("graph.onnx", len(data), hashlib.sha256(data).hexdigest())


def double():
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node("Add", ["x", "x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, kind, ["batch"]) for name in "xy")
    model = helper.make_model(
        helper.make_graph([node], "double", [x], [y]), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    return model.SerializeToString()


def test_graphs_share_memory_and_run(tmp_path):
    export = SimpleNamespace(folder=tmp_path)
    file = write(tmp_path, double())
    for graph in (Graph(export, file, 1), Graph(export, file, 2)):
        for length in (1, 5, 1):
            (found,) = graph(x=np.arange(length, dtype=np.float32))
            assert found.tolist() == [2.0 * one for one in range(length)]


def test_a_graph_that_is_not_run_is_checked_and_not_loaded(tmp_path):
    export = SimpleNamespace(folder=tmp_path)
    graph = Graph(export, write(tmp_path, b"not a graph"), 1)  # the hash is right
    with pytest.raises(ExportError, match=r"graph\.onnx: onnxruntime cannot load it"):
        graph(x=np.zeros(1, np.float32))
    with pytest.raises(ExportError, match="file not found"):
        Graph(export, GraphFile("other.onnx", 1, ""), 1)


def test_wrong_inputs_are_one_line(tmp_path):
    graph = Graph(SimpleNamespace(folder=tmp_path), write(tmp_path, double()), 1)
    with pytest.raises(ExportError, match=r"graph\.onnx: onnxruntime cannot run it") as caught:
        graph(x=np.zeros((1, 2), np.float32))
    assert "\n" not in str(caught.value)
