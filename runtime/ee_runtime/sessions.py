# SPDX-License-Identifier: Apache-2.0
"""Sessions of onnxruntime for the graphs of an export."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache

import numpy as np
import onnxruntime

from ee_runtime.export_folder import Export, ExportError, GraphFile, read_graph
from ee_runtime.interfaces import Interface, check_arrays, check_names

SLOW_FUSIONS = ["SkipLayerNormFusion"]  # its kernel takes longer than an addition and a norm
GROW_AS_NEEDED = 1  # onnxruntime's kSameAsRequested; by default, the memory doubles whenever it grows


def silence() -> None:
    """Stop onnxruntime from printing in this process; its errors are raised in any case."""
    onnxruntime.set_default_logger_severity(4)


class Graph:
    """One ONNX graph with its session, which is made when the graph is first run.

    An exit that no utterance reaches costs neither time nor memory, except that its file is checked.

    Arguments
    ---------
    export : Export
        The export.
    file : GraphFile
        The graph's file.
    threads : int
        Threads per operation.
    interface : Interface
        Inputs and outputs that the graph must have.

    Raises
    ------
    ExportError
        If the file is missing, was changed, or has parts that exports never have.
    """

    def __init__(self, export: Export, file: GraphFile, threads: int, interface: Interface):
        self._file, self._threads, self._interface = export.folder / file.name, threads, interface
        self._sizes = {"vocab": len(export.vocab), "scores": len(export.score_names)}
        self._lock, self._loaded = threading.Lock(), None
        read_graph(export.folder, file)
        self._version = self._file_version()

    def __call__(self, **inputs: np.ndarray) -> list[np.ndarray]:
        """Run the graph; inputs are given by name. Raises ``ExportError`` if onnxruntime cannot load or run it."""
        session = self._session()
        try:
            outputs = session.run(None, inputs)
        except Exception as error:
            raise self._error("run", error) from None
        self._checked(check_arrays, self._interface, inputs, outputs, self._sizes)
        return outputs

    @property
    def is_loaded(self) -> bool:
        """Whether the graph was run."""
        return self._loaded is not None

    def _session(self) -> onnxruntime.InferenceSession:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> onnxruntime.InferenceSession:
        if self._file_version() != self._version:
            raise ExportError(f"{self._file} was changed or removed after the export was opened: open it again")
        try:
            session = make_session(self._path_or_bytes(), self._threads)
        except Exception as error:  # onnxruntime has an error class for every kind of broken graph
            raise self._error("load", error) from None
        sides = (session.get_inputs(), session.get_outputs())
        self._checked(check_names, self._interface, *({one.name: one.type for one in side} for side in sides))
        return session

    def _path_or_bytes(self) -> str | bytes:
        """Return the path, because a session that was made from bytes keeps them beside its own copy of the weights.

        onnxruntime takes no path that is not UTF-8.
        """
        path = str(self._file)
        return self._file.read_bytes() if any("\ud800" <= c <= "\udfff" for c in path) else path

    def _file_version(self) -> tuple[int, ...] | None:
        """Return what differs if the file is written again; None if there is none."""
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def _error(self, what: str, error: Exception) -> Exception:
        if isinstance(error, MemoryError) or "alloc" in str(error):
            return MemoryError(f"{self._file}: {_reason(error)}")
        return ExportError(f"{self._file}: onnxruntime cannot {what} it: {_reason(error)}")

    def _checked(self, check: Callable[..., None], *values: object) -> None:
        try:
            check(*values)
        except ValueError as error:
            raise ExportError(f"{self._file} is not a graph of this export: {error}") from None


def make_session(graph: str | bytes, threads: int) -> onnxruntime.InferenceSession:
    """Make a session with the settings that all graphs have.

    Arguments
    ---------
    graph : str or bytes
        Path of an ONNX file, or its content.
    threads : int
        Threads per operation.
    """
    _share_memory()
    return onnxruntime.InferenceSession(
        graph,
        _options(threads),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=SLOW_FUSIONS,
        enable_fallback=0,  # it would print to standard output and try again with other settings
    )


@cache
def _share_memory() -> None:
    """Let all sessions use one memory arena: segments run one after another, and results of one are not kept."""
    kind, where = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    growth = onnxruntime.OrtArenaCfg({"arena_extend_strategy": GROW_AS_NEEDED})
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, where), growth)


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # A thread that waits must not occupy a core that another process needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # the format that was checked
    options.enable_mem_pattern = False  # plans memory for one length, and nearly every recording has another
    options.log_severity_level = 4  # errors are raised, and need not be printed too
    return options


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
