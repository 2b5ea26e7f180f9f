# SPDX-License-Identifier: Apache-2.0
"""Protobuf messages written by hand, so that a test controls every byte."""


def number(value: int, *, length: int = 0) -> bytes:
    """Encode a number, in more bytes than it needs if asked to."""
    out = bytearray()
    while value >= 128 or len(out) + 1 < length:
        out.append(128 | value & 127)
        value >>= 7
    return bytes(out) + bytes([value])


def field(key: int, value: int | bytes | str, *, length: int = 0) -> bytes:
    """Encode a field: a number, or bytes with their length."""
    if isinstance(value, int):
        return number(key << 3, length=length) + number(value)
    data = value.encode() if isinstance(value, str) else value
    return number(key << 3 | 2, length=length) + number(len(data)) + data


def node(operator: str, *more: bytes, domain: str = "") -> bytes:
    """Encode a node of a graph as a field of it."""
    return field(
        1, field(1, "x") + field(2, "y") + field(4, operator) + (field(7, domain) if domain else b"") + b"".join(more)
    )


def model(*graph: bytes, more: bytes = b"") -> bytes:
    """Encode a model of operators of version 20."""
    return field(1, 10) + field(7, b"".join(graph)) + field(8, field(1, "") + field(2, 20)) + more
