# SPDX-License-Identifier: Apache-2.0
"""Refuse ONNX graphs that do more than compute, before onnxruntime sees them. Standard library only.

An ONNX file is a protobuf message: fields with a number, a type and, if the type is bytes, a length. The check walks
over the fields by length and reads no weights. It takes only the fields and operators in the lists below. Graphs within
graphs, functions, custom operators, weights in other files, control flow and random numbers are in none of them.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_FIELDS = 500_000  # about a second; weights are one field each
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # types in protobuf; groups (3 and 4) are obsolete

STANDARD_OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization BitShift
    BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu Clip Compress Concat Constant
    ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DFT DepthToSpace DequantizeLinear Div Dropout
    DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu
    Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HammingWindow HannWindow HardSigmoid
    HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization MatMul MatMulInteger Max MaxPool Mean MeanVarianceNormalization MelWeightMatrix Min Mish
    Mod Mul Neg NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize RotaryEmbedding Round STFT ScatterElements ScatterND Selu Shape Shrink Sigmoid
    Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh
    ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
    """.split()
)
MICROSOFT_OPERATORS = frozenset(  # of onnxruntime's quantisation
    """
    DequantizeLinear DynamicQuantizeMatMul MatMulIntegerToFloat MatMulNBits QGemm QLinearAdd QLinearConcat
    QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear
    """.split()
)
OPERATORS = {b"": STANDARD_OPERATORS, b"ai.onnx": STANDARD_OPERATORS, b"com.microsoft": MICROSOFT_OPERATORS}

# Fields by message, from onnx.proto: those that are walked into, those that are skipped, and those that are refused.
INNER: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
    "tensor": {},
    "opset": {},
}
SKIPPED: dict[str, dict[int, int]] = {
    "model": {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES, 14: BYTES},
    "graph": dict.fromkeys((2, 10, 11, 12, 13, 14, 16), BYTES),
    "node": dict.fromkeys((1, 2, 3, 4, 6, 7, 9), BYTES),
    "attribute": {1: BYTES, 2: FIXED32, 3: VARINT, 4: BYTES, 7: FIXED32, 8: VARINT, 9: BYTES, 13: BYTES, 20: VARINT},
    "tensor": {1: VARINT, 2: VARINT, 14: VARINT} | dict.fromkeys((4, 5, 6, 7, 8, 9, 10, 11, 12, 16), BYTES),
    "opset": {1: BYTES, 2: VARINT},
}
REFUSED = {
    ("model", 20): "has training steps",
    ("model", 25): "defines functions",
    ("model", 26): "is spread over devices",
    ("graph", 15): "has sparse weights",
    ("node", 8): "calls functions",
    ("node", 10): "is spread over devices",
    ("attribute", 6): "has graphs within the graph",
    ("attribute", 11): "has graphs within the graph",
    ("attribute", 14): "has types as attributes",
    ("attribute", 15): "has types as attributes",
    ("attribute", 21): "calls functions",
    ("attribute", 22): "has sparse weights",
    ("attribute", 23): "has sparse weights",
    ("tensor", 3): "has weights in pieces",
    ("tensor", 13): "reads weights from another file",
}
UNPACKED = {("attribute", 7), ("attribute", 8), ("tensor", 1)}  # repeated numbers, which may also be packed as bytes


def check_graph(data: bytes) -> None:
    r"""Check that a graph only computes.

    Arguments
    ---------
    data : bytes
        Contents of an ONNX file.

    Raises
    ------
    ValueError
        If the bytes are not an ONNX graph, or it has parts that exports never have; the message says what it does.

    Example
    -------
    >>> check_graph(b"\x08\x0a")  # no graph, but a message
    >>> check_graph(b"\x08")
    Traceback (most recent call last):
    ValueError: is not a whole ONNX graph
    """
    _Walk(data).message("model", 0, len(data))


class _Walk:
    def __init__(self, data: bytes):
        self.data, self.num_fields = data, 0

    def message(self, name: str, begin: int, end: int) -> None:
        """Check a message and those within it."""
        inner, skipped, operators, domains = INNER[name], SKIPPED[name], [], []
        for number, kind, value, after in self._fields(begin, end):
            if number in inner and kind == BYTES:
                self.message(inner[number], value, after)
            elif skipped.get(number) != kind and not (kind == BYTES and (name, number) in UNPACKED):
                raise ValueError(f"{REFUSED.get((name, number), 'has unknown parts')}, which exports never do")
            elif name == "node" and number == 4:
                operators.append(self.data[value:after])
            elif name == "node" and number == 7:
                domains.append(self.data[value:after])
            elif name == "tensor" and number == 14 and value:
                raise ValueError("reads weights from another file, which exports never do")
        if name == "node":
            _check_operator(operators, domains or [b""])

    def _fields(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield number, type, value (or position of the first byte) and end of the fields of a message."""
        while begin < end:
            self.num_fields += 1
            if self.num_fields > MAX_FIELDS:
                raise ValueError(f"has more than {MAX_FIELDS} parts")
            key, value = self._number(begin, end)
            kind = key & 7
            if kind == VARINT:
                value, begin = self._number(value, end)
            elif kind == BYTES:
                size, value = self._number(value, end)
                begin = value + size
            elif kind in (FIXED32, FIXED64):
                begin = value + (4 if kind == FIXED32 else 8)
            else:
                raise ValueError("is not an ONNX graph")
            if begin > end:
                raise ValueError("is not a whole ONNX graph")
            yield key >> 3, kind, value, begin

    def _number(self, begin: int, end: int) -> tuple[int, int]:
        """Read a number of up to 10 bytes with 7 bits each; return it and the position after it."""
        value = 0
        for at in range(begin, min(begin + 10, end)):
            byte = self.data[at]
            value |= (byte & 127) << 7 * (at - begin)
            if byte < 128:
                return value, at + 1
        raise ValueError("is not a whole ONNX graph")


def _check_operator(operators: list[bytes], domains: list[bytes]) -> None:
    """Check every operator that a node names; protobuf takes the last one if there are several."""
    for domain in domains:
        for operator in operators or [b""]:
            if operator.decode("utf-8", "replace") not in OPERATORS.get(domain, ()):
                name = (domain + b"." * bool(domain) + operator)[:60].decode("utf-8", "replace")
                raise ValueError(f"has the operator {name!r}, which exports never do")
