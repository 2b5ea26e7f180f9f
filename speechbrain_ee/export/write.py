# SPDX-License-Identifier: Apache-2.0
"""Write a module as an ONNX graph."""

import hashlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ee_runtime.files import write_whole
from speechbrain_ee.export.quantize import quantize

OPSET = 20
EXAMPLE_BATCH, EXAMPLE_FRAMES = 3, 50  # shapes while tracing; both axes are dynamic in the graphs
MAX_GRAPH_BYTES = 2**31 - 2**20  # limit of protobuf, less room for the nodes
Inputs = Mapping[str, torch.Tensor | list[torch.Tensor]]


def example_batch(frames: int, *size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a random batch (batch, frames, *size) and its lengths (batch,)."""
    lengths = torch.tensor([frames, frames - 1, frames // 2])
    return torch.randn(EXAMPLE_BATCH, frames, *size, generator=torch.Generator().manual_seed(0)), lengths


def write_graph(
    module: nn.Module,
    path: Path,
    inputs: Inputs,
    outputs: Sequence[str],
    *,
    axes: Mapping[str, Sequence] | None = None,
    int8: bool = False,
) -> dict:
    """Write a graph.

    Arguments
    ---------
    module : nn.Module
        The module.
    path : Path
        File to write.
    inputs : mapping of str to tensors
        Examples of its inputs, by name; the tensors of a list are named by their position, too.
    outputs : sequence of str
        Names of its outputs.
    axes : mapping of str to sequence
        Names of the dynamic axes of each input, None at an axis of fixed size; for a list of inputs, one sequence per
        tensor. None means that the first axis, and the second one of inputs with more, are dynamic.
    int8 : bool
        Quantise the graph.

    Returns
    -------
    dict
        The graph's entry in ``export.json``.

    Raises
    ------
    ValueError
        If the graph would be larger than 2 GB.
    """
    axes = {name: ["batch", "time"][: one.dim()] for name, one in inputs.items()} if axes is None else axes
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=_dynamic(inputs, axes),
            input_names=_names(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            verbose=False,
        )
    size = sum(tensor.const_value.nbytes for tensor in program.model.graph.initializers.values())
    if size > MAX_GRAPH_BYTES:
        raise ValueError(
            f"{path.name} would have {size} bytes, and ONNX files end at 2 GB: use exits after fewer layers"
        )
    data = program.model_proto.SerializeToString()
    if int8:
        data = quantize(data)
    write_whole(path, data)
    return {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _names(inputs: Inputs) -> list[str]:
    names = []
    for name, one in inputs.items():
        names += [f"{name}{place}" for place in range(len(one))] if isinstance(one, list) else [name]
    return names


def _dynamic(inputs: Inputs, axes: Mapping[str, Sequence]) -> tuple:
    """Return the dynamic axes of the inputs as :func:`torch.onnx.export` takes them."""
    dims: dict[str, torch.export.Dim] = {}

    def of(names: Sequence[str | None]) -> dict:
        used = {place: name for place, name in enumerate(names) if name is not None}
        return {place: dims.setdefault(name, torch.export.Dim(name)) for place, name in used.items()}

    return tuple(
        [of(names) for names in axes[name]] if isinstance(one, list) else of(axes[name]) for name, one in inputs.items()
    )
