# SPDX-License-Identifier: Apache-2.0
"""The folder that ``speechbrain-ee export`` writes: ``export.json`` and one ONNX graph per segment and exit.

Every file is checked before it is used: types and sizes in ``export.json``, the hash of a graph, and that a graph has
no parts that exports never have, such as weights in other files (:mod:`ee_runtime.graph_check`).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ee_runtime.cost import CostModel
from ee_runtime.export_attention import AttentionExport, read_attention
from ee_runtime.export_checks import GraphFile, graph_file, graph_files, number, numbers, text
from ee_runtime.files import lfs_hint, parse_json, read_bytes
from ee_runtime.graph_check import check_graph
from ee_runtime.special_tokens import SPECIAL_TOKENS
from ee_runtime.text.error_units import WORD, ErrorUnit, unit_of

EXPORT_FILE = "export.json"
FORMAT, FORMAT_WITH_ATTENTION = 1, 2  # so that a runtime that knows no attention decoders refuses them
MAX_EXPORT_BYTES = 16 * 2**20
MAX_EXITS = 200
MAX_VOCAB = 100_000


class ExportError(ValueError):
    """An exported model cannot be used; the message says why and what to do."""


class Export(NamedTuple):
    """Contents of ``export.json``.

    Arguments
    ---------
    folder : Path
        The folder.
    model : str
        Fingerprint of the exported model, to which its calibration belongs.
    precision : str
        ``fp32`` or ``int8``.
    sample_rate : int
        Hz.
    min_seconds : float
        Features of shorter utterances are padded to this length.
    max_part_s : float
        Longer recordings are cut.
    max_output_frames : int or None
        Longest input in encoder frames; None for no limit.
    exit_layers : tuple of int
        Exit layers.
    params : tuple of int
        Number of parameters of a model that is cut at each exit.
    vocab : list of str
        Pieces by token id.
    score_names : tuple of str
        Exit scores that the graphs of the exits compute, in order.
    cost : CostModel
        Multiply-accumulates.
    features : GraphFile
        Waveforms to features.
    segments : list of GraphFile
        One graph per segment.
    exits : list of GraphFile
        Head and scores of each exit.
    change : GraphFile
        The exit score that compares two exits.
    attention : AttentionExport | None
        Attention decoders; None if no exit has one.
    error_unit : ErrorUnit
        The unit of errors that the model was selected by.
    """

    folder: Path
    model: str
    precision: str
    sample_rate: int
    min_seconds: float
    max_part_s: float
    max_output_frames: int | None
    exit_layers: tuple[int, ...]
    params: tuple[int, ...]
    vocab: list[str]
    score_names: tuple[str, ...]
    cost: CostModel
    features: GraphFile
    segments: list[GraphFile]
    exits: list[GraphFile]
    change: GraphFile
    attention: AttentionExport | None = None
    error_unit: ErrorUnit = WORD


def read_export(folder: str | Path) -> Export:
    """Read and check ``export.json``.

    Raises
    ------
    ExportError
        If the folder or the file is missing, broken, or of another format.
    """
    folder = Path(folder).absolute()  # graphs are loaded later, perhaps from another working directory
    path = folder / EXPORT_FILE
    try:
        data = read_bytes(path, max_bytes=MAX_EXPORT_BYTES)
    except ValueError as error:
        raise ExportError(f"{path} {error}") from None
    except FileNotFoundError:
        raise ExportError(f"{path}: file not found: give a folder that speechbrain-ee export wrote") from None
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from None
    if hint := lfs_hint(data[:200]):
        raise ExportError(f"{path} {hint}")
    try:
        values = parse_json(data)
        if not isinstance(values, dict):
            raise ValueError("is not a JSON object")
        if values.get("format") not in (FORMAT, FORMAT_WITH_ATTENTION):
            raise ValueError(
                f"format {str(values.get('format'))[:20]} is not {FORMAT} or {FORMAT_WITH_ATTENTION}, the formats of "
                "this version of ee_runtime"
            )
        return _checked(folder, values)
    except KeyError as error:
        raise ExportError(f"{path}: {error} is missing: export the model again") from None
    except ValueError as error:
        raise ExportError(f"{path}: {str(error)[:300]}: export the model again") from None


def read_graph(folder: Path, graph: GraphFile) -> bytes:
    """Read a graph and check its size, its hash, and that it only computes.

    Raises
    ------
    ExportError
        If the file is missing, was changed, or has parts that exports never have.
    """
    path = folder / graph.name
    try:
        if not path.is_file() and path.exists():
            raise ExportError(f"{path} is not a regular file: copy the export again")
        size = path.stat().st_size
        if size != graph.size:
            with open(path, "rb") as file:
                hint = lfs_hint(file.read(200))
            raise ExportError(
                f"{path} {hint}" if hint else f"{path} has {size} bytes instead of {graph.size}: copy the export again"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise ExportError(f"{path}: file not found: copy the export again") from None
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != graph.sha256:
        raise ExportError(f"{path} is not the file that was exported: its SHA-256 differs, copy the export again")
    try:
        check_graph(data)
    except ValueError as error:
        raise ExportError(f"{path} {error}: do not use it") from None
    return data


def _checked(folder: Path, values: Mapping) -> Export:
    exit_layers = numbers(values, "exit_layers", int, 1, MAX_EXITS)
    if exit_layers != sorted(set(exit_layers)) or not 0 < len(exit_layers) <= MAX_EXITS:
        raise ValueError(f"exit_layers {exit_layers} are not increasing")
    vocab = values["vocab"]
    if not isinstance(vocab, list) or not len(SPECIAL_TOKENS) < len(vocab) <= MAX_VOCAB:
        raise ValueError("vocab is not a list of pieces")
    if not all(isinstance(piece, str) for piece in vocab):
        raise ValueError("vocab has entries that are not text")
    if any(unicodedata.category(c) == "Cc" and not c.isspace() for piece in vocab for c in piece):
        raise ValueError("vocab has control characters, which could change what a terminal shows")
    names = values["score_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("score_names is not a list of names")
    graphs = values["graphs"]
    files = {name: graph_files(graphs, name) for name in ("segments", "exits")}
    for name, found in files.items():
        if len(found) != len(exit_layers):
            raise ValueError(f"there are {len(found)} {name} for {len(exit_layers)} exit layers")
    params = numbers(values, "params", int, 0, 2**53)
    if len(params) != len(exit_layers):
        raise ValueError(f"there are {len(params)} params for {len(exit_layers)} exit layers")
    has_attention = values["format"] == FORMAT_WITH_ATTENTION
    return Export(
        folder=folder,
        model=text(values, "model"),
        precision=text(values, "precision"),
        sample_rate=number(values, "sample_rate", int, 1000, 400_000),
        min_seconds=number(values, "min_seconds", float, 0, 60),
        max_part_s=number(values, "max_part_s", float, 0.1, 3600),
        max_output_frames=None
        if values["max_output_frames"] is None
        else number(values, "max_output_frames", int, 1, 2**31),
        exit_layers=tuple(exit_layers),
        params=tuple(params),
        vocab=vocab,
        score_names=tuple(names),
        cost=_cost(values["cost"], len(exit_layers)),
        features=graph_file(graphs, "features"),
        segments=files["segments"],
        exits=files["exits"],
        change=graph_file(graphs, "change"),
        attention=read_attention(values, len(exit_layers), len(vocab)) if has_attention else None,
        error_unit=unit_of(values),
    )


def _cost(values: object, num_exits: int) -> CostModel:
    if not isinstance(values, dict):
        raise ValueError("cost is not an object")
    try:
        cost = CostModel.from_dict(values)
        numbers = [cost.min_frames, cost.head, *cost.front, *cost.layer, *cost.segments]
        numbers += [number for stage in cost.stages for number in stage]
    except TypeError:
        raise ValueError("cost has missing or unknown entries") from None
    if not all(isinstance(number, int) and abs(number) < 2**53 for number in numbers):
        raise ValueError("cost has entries that are not integers")
    shapes = (len(cost.front), len(cost.layer), len(cost.segments))
    if shapes != (2, 3, num_exits) or any(stage.stride < 1 for stage in cost.stages):
        raise ValueError("cost has entries of wrong shapes")
    return cost
