# SPDX-License-Identifier: Apache-2.0
"""Sessions of onnxruntime for the graphs of an export."""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np
import onnxruntime

from ee_runtime.export_folder import Export, ExportError, GraphFile, read_graph

SLOW_FUSIONS = ["SkipLayerNormFusion"]  # its kernel takes longer than an addition and a norm
GROW_AS_NEEDED = 1  # onnxruntime's kSameAsRequested; by default, the memory doubles whenever it grows


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

    Raises
    ------
    ExportError
        If the file is missing, was changed, or reads other files.
    """

    def __init__(self, export: Export, file: GraphFile, threads: int):
        read_graph(export.folder, file)
        self._file, self._threads = export.folder / file.name, threads

    def __call__(self, **inputs: np.ndarray) -> list[np.ndarray]:
        """Run the graph; inputs are given by name. Raises ``ExportError`` if onnxruntime cannot load or run it."""
        session = self._session
        try:
            return session.run(None, inputs)
        except Exception as error:
            if "alloc" in str(error):
                raise MemoryError(f"{self._file}: {_reason(error)}") from None
            raise ExportError(f"{self._file}: onnxruntime cannot run it: {_reason(error)}") from None

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        try:
            # From its path, because a session that was made from bytes keeps them beside its own copy of the weights.
            return make_session(str(self._file), self._threads)
        except Exception as error:  # onnxruntime has an error class for every kind of broken graph
            raise ExportError(f"{self._file}: onnxruntime cannot load it: {_reason(error)}") from None


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
        graph, _options(threads), providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
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
    options.enable_mem_pattern = False  # plans memory for one length, and nearly every recording has another
    options.log_severity_level = 4  # errors are raised, and need not be printed too
    return options


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
