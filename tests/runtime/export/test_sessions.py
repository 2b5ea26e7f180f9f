# SPDX-License-Identifier: Apache-2.0
"""Sessions are made when a graph is first run; a broken graph is one line."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
from runtime.export.protobuf import field, model

from ee_runtime.export_folder import ExportError, GraphFile
from ee_runtime.interfaces import FLOAT, Array, Interface
from ee_runtime.sessions import Graph

onnx = pytest.importorskip("onnx")
DOUBLE = Interface({"x": Array(FLOAT, ("batch",))}, {"y": Array(FLOAT, ("batch",))})


def opened(folder, file, threads=1, interface=DOUBLE):
    return Graph(SimpleNamespace(folder=folder, vocab=[], score_names=[]), file, threads, interface)


def write(folder, data):
    (folder / "graph.onnx").write_bytes(data)
    return GraphFile("graph.onnx", len(data), hashlib.sha256(data).hexdigest())


def double(opset=20):
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node("Add", ["x", "x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, kind, ["batch"]) for name in "xy")
    model = helper.make_model(
        helper.make_graph([node], "double", [x], [y]), opset_imports=[helper.make_opsetid("", opset)], ir_version=10
    )
    return model.SerializeToString()


def test_graphs_share_memory_and_run(tmp_path):
    file = write(tmp_path, double())
    for graph in (opened(tmp_path, file, 1), opened(tmp_path, file, 2)):
        for length in (1, 5, 1):
            (found,) = graph(x=np.arange(length, dtype=np.float32))
            assert found.tolist() == [2.0 * one for one in range(length)]


def test_a_graph_that_is_not_run_is_checked_and_not_loaded(tmp_path):
    graph = opened(tmp_path, write(tmp_path, double(opset=99)))
    with pytest.raises(ExportError, match=r"graph\.onnx: onnxruntime cannot load it"):
        graph(x=np.zeros(1, np.float32))
    with pytest.raises(ExportError, match=r"graph\.onnx is not an ONNX graph: do not use it"):
        opened(tmp_path, write(tmp_path, b"not a graph"))  # the hash is right
    with pytest.raises(ExportError, match="file not found"):
        opened(tmp_path, GraphFile("other.onnx", 1, ""))


def test_wrong_inputs_are_one_line(tmp_path):
    graph = opened(tmp_path, write(tmp_path, double()))
    with pytest.raises(ExportError, match=r"graph\.onnx: onnxruntime cannot run it") as caught:
        graph(x=np.zeros((1, 2), np.float32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("interface", "message"),
    [
        (Interface(DOUBLE.inputs, {"z": Array(FLOAT, ("batch",))}), "its outputs are y tensor"),
        (
            Interface(DOUBLE.inputs, {"y": Array(FLOAT, ("batch",), is_log_prob=True)}),
            "its output y has values above 0",
        ),
    ],
)
def test_a_graph_with_other_outputs_is_one_line(tmp_path, interface, message):
    graph = opened(tmp_path, write(tmp_path, double()), interface=interface)
    with pytest.raises(ExportError, match=rf"graph\.onnx is not a graph of this export: {message}"):
        graph(x=np.ones(1, np.float32))


def test_nothing_is_printed_about_a_name_that_is_not_utf_8(tmp_path, capfd):
    node = field(1, field(1, b"\x80") + field(2, "y") + field(4, "Identity"))  # its input does not exist
    graph = opened(tmp_path, write(tmp_path, model(field(2, "g"), node, field(12, field(1, "y")))))
    with pytest.raises(ExportError, match=r"graph\.onnx: onnxruntime cannot load it"):
        graph(x=np.ones(1, np.float32))
    assert capfd.readouterr() == ("", "")
