# SPDX-License-Identifier: Apache-2.0
"""Strict loading, comparison and hashes of state dicts."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

import torch

from speechbrain_ee.errors import CheckpointError

MAX_NAMES = 5  # in a message


def load_strict(module: torch.nn.Module, state_dict: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Load a state dict that fits the module exactly; otherwise change nothing and raise an error.

    Arguments
    ---------
    module : torch.nn.Module
        Module to load into.
    state_dict : Mapping
        Tensors by name, as from ``module.state_dict()``.
    what : str
        Name of the source in the message, e.g. "the checkpoint save/CKPT+...".

    Raises
    ------
    CheckpointError
        If a key is missing or unknown, or has another shape or type.

    Example
    -------
    >>> model = torch.nn.ModuleDict({"heads": torch.nn.ModuleList([torch.nn.Linear(2, 3)] * 2)})
    >>> state = {k: v for k, v in model.state_dict().items() if not k.startswith("heads.1.")}
    >>> load_strict(model, state, what="the checkpoint")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    speechbrain_ee.errors.CheckpointError: the checkpoint lacks head 1: heads.1.weight, ...
    """
    check_same(module.state_dict(), state_dict, what=what)
    module.load_state_dict(state_dict)


def check_same(own: Mapping[str, torch.Tensor], state_dict: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Check that two state dicts have the same names, shapes and kinds of numbers; see :func:`load_strict`."""
    differences = [
        ("lacks", [key for key in own if key not in state_dict]),
        ("has in excess", [key for key in state_dict if key not in own]),
        ("has in another shape", other_shapes(own, state_dict)),
        ("has in another type", _other_types(own, state_dict)),
    ]
    found = [
        f"{verb} {_head_names(keys)}{first_names(keys)} ({len(keys)} key{'s' * (len(keys) > 1)})"
        for verb, keys in differences
        if keys
    ]
    if found:
        raise CheckpointError(f"{what} {', '.join(found)}; build the model with the settings it was trained with")


def modules_digest(modules: Sequence[torch.nn.Module]) -> str:
    """Hash the configurations and state dicts of lobes.

    Arguments
    ---------
    modules : Sequence
        Lobes in a fixed order.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for module in modules:
        digest.update(json.dumps(module.config, sort_keys=True).encode())
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def other_shapes(own: Mapping, state_dict: Mapping) -> list[str]:
    """Return the names and both shapes of common tensors that differ in shape."""
    return [
        f"{key} {tuple(theirs.shape)} instead of {tuple(ours.shape)}"
        for key, ours, theirs in _shared_tensors(own, state_dict)
        if ours.shape != theirs.shape
    ]


def _other_types(own: Mapping, state_dict: Mapping) -> list[str]:
    """Return the names and types of common tensors that are real in one only; precisions may differ."""
    return [
        f"{key} {theirs.dtype} instead of {ours.dtype}"
        for key, ours, theirs in _shared_tensors(own, state_dict)
        if ours.is_floating_point() != theirs.is_floating_point() or theirs.is_complex()
    ]


def _shared_tensors(own: Mapping, state_dict: Mapping) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Return the name and both tensors of common keys; extra state that is not a tensor is left to torch."""
    pairs = [(key, ours, state_dict[key]) for key, ours in own.items() if key in state_dict]
    return [pair for pair in pairs if all(isinstance(value, torch.Tensor) for value in pair[1:])]


def _head_names(keys: list[str]) -> str:
    """Return the exit heads that the keys belong to: "heads 1, 2: ", or an empty string."""
    found = [re.search(r"(?:^|\.)heads\.(\d+)\.", key) for key in keys]
    indices = sorted({int(match[1]) for match in found if match})
    if not indices:
        return ""
    return f"head{'s' * (len(indices) > 1)} {', '.join(map(str, indices))}: "


def first_names(names: list[str]) -> str:
    """Join the first few names for a message of one line."""
    return ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
