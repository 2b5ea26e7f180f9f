# SPDX-License-Identifier: Apache-2.0
"""Checks of the values in ``export.json``; all raise ``ValueError`` or ``KeyError``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class GraphFile(NamedTuple):
    """A graph of the export.

    Arguments
    ---------
    name : str
        File name in the folder.
    size : int
        Bytes.
    sha256 : str
        64 hexadecimal digits.
    """

    name: str
    size: int
    sha256: str


def text(values: Mapping, name: str) -> str:
    """Return a text."""
    if not isinstance(values[name], str):
        raise ValueError(f"{name} is not text")
    return values[name]


def number(values: Mapping, name: str, kind: type, low: float, high: float):
    """Return a number within limits."""
    return _number(values[name], name, kind, low, high)


def numbers(values: Mapping, name: str, kind: type, low: float, high: float) -> list:
    """Return a list of numbers within limits."""
    if not isinstance(values[name], list):
        raise ValueError(f"{name} is not a list")
    return [_number(one, name, kind, low, high) for one in values[name]]


def _number(given: object, name: str, kind: type, low: float, high: float):
    is_number = isinstance(given, int if kind is int else int | float) and not isinstance(given, bool)
    if not is_number or not math.isfinite(given) or not low <= given <= high:
        raise ValueError(f"{name} {str(given)[:40]} is not a number from {low} to {high}")
    return given


def graph_file(graphs: object, name: str) -> GraphFile:
    """Return the file of a graph."""
    if not isinstance(graphs, dict):
        raise ValueError("graphs is not an object")
    return _graph_file(graphs[name], name)


def graph_files(graphs: object, name: str) -> list[GraphFile]:
    """Return the files of a list of graphs."""
    if not isinstance(graphs, dict) or not isinstance(graphs[name], list):
        raise ValueError(f"graphs is not an object, or its {name} are not a list")
    return [_graph_file(entry, name) for entry in graphs[name]]


def _graph_file(entry: object, name: str) -> GraphFile:
    if not isinstance(entry, dict):
        raise ValueError(f"graphs: {name} has an entry that is not an object")
    file, size, digest = entry["file"], entry["bytes"], entry["sha256"]
    if not isinstance(file, str) or not file or Path(file).name != file or file.startswith("."):
        raise ValueError(f"graphs: {str(file)[:60]!r} is not the name of a file in the folder")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size < 2**31 or not isinstance(digest, str):
        raise ValueError(f"graphs: {file[:60]!r} has no size or hash")
    return GraphFile(file, size, digest)
