# SPDX-License-Identifier: Apache-2.0
"""The rate of matrix products on this machine with a given number of threads, to compare times of machines."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ee_runtime.sessions import make_session

SIZE = 1024
FLOAT32 = 1  # number of the type in ONNX


class MatrixProduct:
    """A float32 product of two square matrices in onnxruntime, with the threads and settings of the models.

    NumPy would use a number of threads that was fixed when it was imported, and its waiting threads would disturb the
    next measurement.

    Arguments
    ---------
    threads : int
        Threads of the product.
    size : int
        Rows and columns.
    clock : callable
        Returns seconds.

    Example
    -------
    >>> product = MatrixProduct(threads=1, size=64)
    >>> product.time()
    >>> product.gflops > 0
    True
    """

    def __init__(self, threads: int, size: int = SIZE, clock: Callable[[], float] = time.perf_counter):
        self._session = make_session(product_graph(size), threads)
        generator = np.random.default_rng(0)
        self._matrices = {name: generator.standard_normal((size, size), dtype=np.float32) for name in "ab"}
        self._size, self._clock, self._best = size, clock, float("inf")
        self._run()  # the first product allocates memory

    def time(self) -> None:
        """Compute and time one product."""
        begin = self._clock()
        self._run()
        self._best = min(self._best, self._clock() - begin)

    def _run(self) -> None:
        self._session.run(None, self._matrices)

    @property
    def gflops(self) -> float:
        """Rate of the fastest product in 10^9 floating-point operations per second."""
        return 2 * self._size**3 / self._best / 1e9


def product_graph(size: int) -> bytes:
    """Return an ONNX model with the product of the matrices ``a`` and ``b``, both (size, size).

    The package onnx, which writes such files, is not installed on a device. The numbers are those of the fields in
    ``onnx.proto``.
    """
    shape = b"".join(_field(1, _number(1, size)) for _ in range(2))
    matrix = _field(2, _field(1, _number(1, FLOAT32) + _field(2, shape)))
    node = _field(1, b"a") + _field(1, b"b") + _field(2, b"c") + _field(4, b"MatMul")
    graph = _field(1, node) + _field(2, b"product")
    graph += b"".join(_field(11, _field(1, name) + matrix) for name in (b"a", b"b"))
    graph += _field(12, _field(1, b"c") + matrix)
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 17))


def _field(number: int, content: bytes) -> bytes:
    """Return a protobuf field that holds bytes."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    """Return a protobuf field that holds a number."""
    return bytes([number << 3]) + _varint(value)


def _varint(value: int) -> bytes:
    """Return a number in 7-bit groups, the lowest first; all but the last have the high bit set."""
    groups = b""
    while value > 127:
        groups += bytes([value & 127 | 128])
        value >>= 7
    return groups + bytes([value])
