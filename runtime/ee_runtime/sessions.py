# SPDX-License-Identifier: Apache-2.0
"""Sessions of onnxruntime for the graphs of an export."""

from __future__ import annotations

import numpy as np
import onnxruntime

from ee_runtime.export_folder import Export, ExportError, GraphFile, read_graph

SLOW_FUSIONS = ["SkipLayerNormFusion"]  # its kernel takes longer than an addition and a norm


class Graph:
    """One ONNX graph with its session.

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
        If the file was changed, or onnxruntime cannot load it.
    """

    def __init__(self, export: Export, file: GraphFile, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # A thread that waits must not occupy a core that another process needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 4  # errors are raised, and need not be printed too
        data = read_graph(export.folder, file)
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
            )
        except Exception as error:  # onnxruntime has an error class for every kind of broken graph
            raise ExportError(f"{export.folder / file.name}: onnxruntime cannot load it: {_reason(error)}") from None
        self._file = export.folder / file.name
        self.inputs = [one.name for one in self._session.get_inputs()]

    def __call__(self, **inputs: np.ndarray) -> list[np.ndarray]:
        """Run the graph; inputs are given by name."""
        try:
            return self._session.run(None, inputs)
        except Exception as error:
            if "alloc" in str(error):
                raise MemoryError(f"{self._file}: {_reason(error)}") from None
            raise ExportError(f"{self._file}: onnxruntime cannot run it: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
