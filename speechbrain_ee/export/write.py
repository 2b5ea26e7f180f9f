# SPDX-License-Identifier: Apache-2.0
"""Write modules as ONNX graphs."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ee_runtime.files import write_whole
from ee_runtime.interfaces import Interface
from speechbrain_ee.export.quantize import quantize

if TYPE_CHECKING:
    import onnx

OPSET = 20
EXAMPLE_BATCH, EXAMPLE_FRAMES = 3, 50  # shapes while tracing; both axes are dynamic in the graphs
MAX_GRAPH_BYTES = 2**31 - 2**20  # limit of protobuf, less room for the nodes
Inputs = Sequence[torch.Tensor | list[torch.Tensor]]


def example_batch(frames: int, *size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a random batch (batch, frames, *size) and its lengths (batch,)."""
    lengths = torch.tensor([frames, frames - 1, frames // 2])
    return torch.randn(EXAMPLE_BATCH, frames, *size, generator=torch.Generator().manual_seed(0)), lengths


class GraphWriter:
    """Writes modules as ONNX graphs; modules that differ only in their weights are traced once, which takes seconds.

    The weights of a module that can differ are those of its attribute ``part`` (a module), or else all of them. Modules
    of the same class whose parts have the same layers, names and shapes have the same graph.

    Arguments
    ---------
    folder : Path
        Folder for the files.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._traced: dict[tuple, tuple[bytes, dict[str, str]]] = {}

    def write(
        self,
        name: str,
        module: nn.Module,
        inputs: Inputs,
        interface: Interface,
        *,
        axes: Sequence[Sequence] | None = None,
        int8: bool = False,
    ) -> dict:
        """Write a graph.

        Arguments
        ---------
        name : str
            Name of the file, without ``.onnx``.
        module : nn.Module
            The module.
        inputs : sequence of tensors
            Examples of its inputs; an input can be a list of tensors.
        interface : Interface
            Names of the inputs, tensors of lists one by one, and of the outputs.
        axes : sequence of sequence
            Names of the dynamic axes of each input, None at an axis of fixed size; for a list of tensors, one sequence
            per tensor. None means that the first axis, and the second one of inputs with more, are dynamic.
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
        from onnx import load_from_string
        from onnxscript import optimizer

        path, part = self.folder / f"{name}.onnx", getattr(module, "part", module)
        weights = _weights(part)
        first = {id(one): name for name, one in reversed(weights.items())}
        key = (
            type(module),
            *interface.outputs,
            str(part),
            *((name, one.shape, first[id(one)]) for name, one in weights.items()),
        )
        if key not in self._traced:
            names = _names_in(module, weights)
            self._traced[key] = _trace(module.eval(), path.name, inputs, interface, axes, names), names
        data, names = self._traced[key]
        graph = load_from_string(data)
        _set_weights(graph, {name: weights[own] for name, own in names.items()})
        optimized = optimizer.optimize(graph)
        _remove_notes(optimized)
        data = optimized.SerializeToString()
        if int8:
            data = quantize(data)
        write_whole(path, data)
        return {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _trace(
    module: nn.Module,
    file: str,
    inputs: Inputs,
    interface: Interface,
    axes: Sequence[Sequence] | None,
    names: Collection[str],
) -> bytes:
    """Return the graph of a module, in which the weights with the given names have these names."""
    axes = [["batch", "time"][: one.dim()] for one in inputs] if axes is None else axes
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            tuple(inputs),
            dynamo=True,
            dynamic_shapes=_dynamic(inputs, axes),
            input_names=list(interface.inputs),
            output_names=list(interface.outputs),
            opset_version=OPSET,
            optimize=False,  # it would compute new weights from those of the module
            verbose=False,
        )
    found, signature = program.model.graph.initializers, program.exported_program.graph_signature
    used = {node.name for node in program.exported_program.graph.nodes if node.op == "placeholder" and node.users}
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    if lost := [name for place, name in stored.items() if place in used and name in names and name not in found]:
        raise ValueError(f"{file}: this version of torch stores the weight {lost[0]} under another name: use another")
    size = sum(tensor.const_value.nbytes for tensor in found.values())
    if size > MAX_GRAPH_BYTES:
        raise ValueError(f"{file} would have {size} bytes, and ONNX files end at 2 GB: use exits after fewer layers")
    return program.model_proto.SerializeToString()


def _weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers by name; a shared one has several names."""
    return dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))


def _names_in(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return the names of weights in a module, with their names in its part."""
    own = {id(one): name for name, one in weights.items()}
    return {name: own[id(one)] for name, one in _weights(module).items() if id(one) in own}


def _set_weights(graph: onnx.ModelProto, weights: Mapping[str, torch.Tensor]) -> None:
    from onnx import numpy_helper

    for tensor in graph.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name].detach().numpy(), tensor.name))


def _remove_notes(model: onnx.ModelProto) -> None:
    """Remove stack traces and the like: they name folders of this machine and are of no use to a runtime."""
    graph = model.graph
    for one in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        one.ClearField("metadata_props")
        one.ClearField("doc_string")


def _dynamic(inputs: Inputs, axes: Sequence[Sequence]) -> tuple:
    """Return the dynamic axes of the inputs as :func:`torch.onnx.export` takes them."""
    dims: dict[str, torch.export.Dim] = {}

    def of(names: Sequence[str | None]) -> dict:
        used = {place: name for place, name in enumerate(names) if name is not None}
        return {place: dims.setdefault(name, torch.export.Dim(name)) for place, name in used.items()}

    return tuple(
        [of(names) for names in own] if isinstance(one, list) else of(own)
        for one, own in zip(inputs, axes, strict=True)
    )
