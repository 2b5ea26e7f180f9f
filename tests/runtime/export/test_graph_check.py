# SPDX-License-Identifier: Apache-2.0
"""Graphs that do more than compute are refused, however their bytes are spelt."""

import time

import pytest
from runtime.export.protobuf import field, model, node, number

from ee_runtime.graph_check import INNER, REFUSED, SKIPPED, STANDARD_OPERATORS, check_graph

LOCATION = field(13, field(1, "location") + field(2, "/etc/passwd"))
SWAPPED = field(13, field(2, "/etc/passwd") + field(1, "location", length=3))  # value first, and a longer key
OFFSET = field(13, field(1, "offset") + field(2, "0"))
OUTSIDE = field(1, 3) + field(2, 1) + field(8, "weight")
WEIGHT = OUTSIDE + field(9, bytes(12))
GRAPH = field(1, node("Identity")[2:])


def test_a_graph_of_usual_operators_is_taken():
    attribute = field(5, field(1, "axes") + field(8, 1) + field(8, 2) + field(20, 7))
    quantised = node("DynamicQuantizeMatMul", domain="com.microsoft")
    check_graph(model(node("Conv", attribute), node("MatMul", domain="ai.onnx"), quantised, field(5, WEIGHT)))


@pytest.mark.parametrize("pairs", [LOCATION, SWAPPED, OFFSET, field(14, 1), OFFSET + LOCATION, field(14, 1, length=4)])
@pytest.mark.parametrize("place", ["weight", "constant", "list"])
def test_weights_in_other_files_are_refused_in_every_spelling(pairs, place):
    tensor = OUTSIDE + pairs
    graphs = {
        "weight": field(5, WEIGHT) + field(5, tensor),
        "constant": node("Constant", field(5, field(1, "value") + field(20, 4) + field(5, tensor))),
        "list": node("Identity", field(5, field(1, "values") + field(20, 9) + field(10, WEIGHT) + field(10, tensor))),
    }
    with pytest.raises(ValueError, match="reads weights from another file"):
        check_graph(model(graphs[place]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (model(node("Loop")), "operator 'Loop'"),
        (model(node("If", field(5, field(1, "then_branch") + field(6, GRAPH)))), "graphs within the graph"),
        (model(node("Identity", field(5, field(1, "bodies") + field(11, GRAPH)))), "graphs within the graph"),
        (model(node("RandomNormal")), "operator 'RandomNormal'"),
        (model(node("SequenceMap")), "operator 'SequenceMap'"),
        (model(node("Identity", field(4, "Loop"))), "operator 'Loop'"),  # the last name counts
        (model(node("Loop", field(4, "Identity"))), "operator 'Loop'"),
        (model(field(1, field(2, "y"))), "operator ''"),
        (model(node("Conv", domain="com.microsoft")), "operator 'com.microsoft.Conv'"),
        (model(node("EPContext", domain="com.microsoft")), "operator 'com.microsoft.EPContext'"),
        (model(node("Conv", domain="mine")), "operator 'mine.Conv'"),
        (model(node("Conv", field(8, "overload"))), "calls functions"),
        (model(node("Conv", field(5, field(21, "name")))), "calls functions"),
        (model(more=field(25, field(1, "F"))), "defines functions"),
        (model(more=field(20, b"")), "has training steps"),
        (model(field(15, field(1, OUTSIDE + LOCATION))), "has sparse weights"),
        (model(node("Constant", field(5, field(22, field(1, OUTSIDE + LOCATION))))), "has sparse weights"),
        (model(more=field(7, node("Loop"))), "operator 'Loop'"),  # a second graph is merged with the first
        (model(more=field(99, b"")), "has unknown parts"),
        (model(node("Conv")) + number(7 << 3 | 2 | 1 << 35) + b"\x00", "has unknown parts"),  # a key of 36 bits
        (model() + b"\x3b", "is not an ONNX graph"),  # a group
        (model() + b"\x3d\x00\x00\x00\x00", "has unknown parts"),  # the graph as a number
        (b"\x1c\x00\x00\x00ORTM" + bytes(100), "is not an ONNX graph"),  # onnxruntime's own format
        (model(node("Conv"))[:-3], "is not a whole ONNX graph"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "is not a whole ONNX graph"),
        (b"\xff" * 20, "is not a whole ONNX graph"),
        (b"\x08\x01" * 500_001, "has more than 500000 parts"),
        (model(node("\x1b[2J")), r"operator '\\x1b"),
    ],
)
def test_everything_else_is_refused(data, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_graph(data)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 150


def test_weights_are_not_read():
    data = model(node("Conv"), field(5, OUTSIDE + field(9, bytes(10**8))))
    begin = time.perf_counter()
    check_graph(data)
    assert time.perf_counter() - begin < 0.05, "100 MB of weights are skipped"


def test_every_field_of_the_onnx_package_is_known():
    onnx = pytest.importorskip("onnx")
    messages = {"model": onnx.ModelProto, "graph": onnx.GraphProto, "node": onnx.NodeProto, "tensor": onnx.TensorProto}
    messages |= {"attribute": onnx.AttributeProto, "opset": onnx.OperatorSetIdProto}
    for name, message in messages.items():
        known = {*INNER[name], *SKIPPED[name], *(number for other, number in REFUSED if other == name)}
        assert {one.name for one in message.DESCRIPTOR.fields if one.number not in known} == set(), name


def test_the_operators_exist():
    onnx = pytest.importorskip("onnx")
    if onnx.defs.onnx_opset_version() < 24:
        pytest.skip("some operators are newer than this onnx")
    assert STANDARD_OPERATORS <= {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
