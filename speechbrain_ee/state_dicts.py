# SPDX-License-Identifier: Apache-2.0
"""State dicts: loaded exactly or not at all, and averaged over checkpoints."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from speechbrain.utils import checkpoints as sb_checkpoints
from speechbrain.utils.checkpoints import Checkpointer

from speechbrain_ee.errors import CheckpointError

MAX_NAMES = 5  # in a message


def load_strict(module: torch.nn.Module, state_dict: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Load a state dict that fits the module exactly, or change nothing and say what differs.

    Arguments
    ---------
    module : torch.nn.Module
        Module to load into.
    state_dict : Mapping
        State by name, as ``module.state_dict()`` gives it.
    what : str
        What is loaded, for the message: "the checkpoint save/CKPT+...".

    Raises
    ------
    CheckpointError
        If a key is missing, is one too many or has another shape.

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
    """Refuse a state dict with other names or shapes, or with whole numbers for real ones; see :func:`load_strict`."""
    differences = [
        ("lacks", [key for key in own if key not in state_dict]),
        ("has in excess", [key for key in state_dict if key not in own]),
        ("has in another shape", _other_shapes(own, state_dict)),
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
    """Hash of the configurations and states of modules that have a ``config``.

    Arguments
    ---------
    modules : Sequence
        In an order of their own.

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


def average_checkpoints(
    checkpointer: Checkpointer, recoverable_name: str, num: int, *, min_key: str
) -> dict[str, torch.Tensor]:
    """Mean state dict of the best checkpoints; whole numbers are taken from the best one.

    Arguments
    ---------
    checkpointer : Checkpointer
        Where the checkpoints are.
    recoverable_name : str
        Whose state to average: "model".
    num : int
        How many checkpoints, at least 1; with fewer at hand, all of them.
    min_key : str
        Key of the checkpoints' meta; lower is better: "WER".

    Returns
    -------
    State dict on the CPU, each entry of the type it was saved in.

    Raises
    ------
    CheckpointError
        If none has ``min_key``, one lacks the recoverable, or their keys or shapes differ.

    Example
    -------
    >>> from speechbrain_ee.checkpoints import AtomicCheckpointer
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> checkpointer = AtomicCheckpointer(getfixture("tmp_path"), {"model": model})
    >>> for value, wer in [(1.0, 30.0), (2.0, 10.0), (6.0, 20.0)]:
    ...     _ = model.weight.data.fill_(value)
    ...     _ = checkpointer.save_checkpoint({"WER": wer})
    >>> average_checkpoints(checkpointer, "model", 2, min_key="WER")
    {'weight': tensor([[4.]])}
    """
    if num < 1:
        raise ValueError(f"the number of checkpoints to average is {num}: give 1 or more")
    best = checkpointer.find_checkpoints(min_key=min_key, max_num_checkpoints=num)
    if not best:
        raise CheckpointError(
            f"no checkpoint in {checkpointer.checkpoints_dir} has {min_key} in its meta: train for at least one epoch"
        )
    for ckpt in best:
        if recoverable_name not in ckpt.paramfiles:
            raise CheckpointError(
                f"the checkpoint {ckpt.path} lacks {recoverable_name}: it has {first_names(sorted(ckpt.paramfiles))}"
            )

    def averager(state_dicts):
        return _mean_state_dict(zip((ckpt.path for ckpt in best), state_dicts, strict=True))

    return sb_checkpoints.average_checkpoints(best, recoverable_name, averager=averager)


def interpolate(
    trained: Mapping[str, torch.Tensor], initial: Mapping[str, torch.Tensor], *, share: float
) -> dict[str, torch.Tensor]:
    """Point on the line between two state dicts of one model; whole numbers are taken from the trained one.

    Between what a pretrained model knew and what fine-tuning taught it lies a model that is often better on both
    (Wortsman et al., arXiv 2109.01903).

    Arguments
    ---------
    trained : Mapping
        State after the training.
    initial : Mapping
        State before it, of the same names and shapes.
    share : float
        Of ``initial``, from 0 to 1.

    Returns
    -------
    State dict, each entry of the type it has in ``trained``.

    Example
    -------
    >>> interpolate({"weight": torch.tensor([4.0])}, {"weight": torch.tensor([0.0])}, share=0.25)
    {'weight': tensor([3.])}
    """
    if share == 0:
        return dict(trained)
    # Double precision on the CPU: some devices (Apple's) have none.
    return {
        key: ((1 - share) * value.cpu().double() + share * initial[key].cpu().double()).to(value.dtype).to(value.device)
        if _is_averaged(value)
        else value
        for key, value in trained.items()
    }


def _mean_state_dict(named_state_dicts: Iterable[tuple[Path, dict]]) -> dict[str, torch.Tensor]:
    """Mean over pairs of (path for the message, state dict); they are loaded one after another."""
    iterator = iter(named_state_dicts)
    best_path, best = next(iterator)
    # Doubles: the rounding of a long sum in half precision would show.
    total = {k: v.cpu().double() for k, v in best.items() if _is_averaged(v)}
    count = 1
    for path, state_dict in iterator:
        differing = sorted(best.keys() ^ state_dict.keys()) + _other_shapes(best, state_dict)
        if differing:
            raise CheckpointError(
                f"the checkpoints {best_path} and {path} differ in {first_names(differing)}: "
                "average checkpoints of one model only"
            )
        for key in total:
            total[key] += state_dict[key].cpu()
        count += 1
    means = {key: (value / count).to(best[key].dtype).to(best[key].device) for key, value in total.items()}
    return {**best, **means}


def _is_averaged(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _other_shapes(own: Mapping, state_dict: Mapping) -> list[str]:
    """Names and both shapes of the tensors that are in both and differ in shape."""
    return [
        f"{key} {tuple(theirs.shape)} instead of {tuple(ours.shape)}"
        for key, ours, theirs in _shared_tensors(own, state_dict)
        if ours.shape != theirs.shape
    ]


def _other_types(own: Mapping, state_dict: Mapping) -> list[str]:
    """Names and types of the tensors that are real numbers in one and not in the other; precisions may differ."""
    return [
        f"{key} {theirs.dtype} instead of {ours.dtype}"
        for key, ours, theirs in _shared_tensors(own, state_dict)
        if ours.is_floating_point() != theirs.is_floating_point() or theirs.is_complex()
    ]


def _shared_tensors(own: Mapping, state_dict: Mapping) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Name and both tensors of what both have; a module's extra state need not be a tensor, and torch checks it."""
    pairs = [(key, ours, state_dict[key]) for key, ours in own.items() if key in state_dict]
    return [pair for pair in pairs if all(isinstance(value, torch.Tensor) for value in pair[1:])]


def _head_names(keys: list[str]) -> str:
    """Name the exit heads that the keys belong to: "heads 1, 2: ", or nothing."""
    found = [re.search(r"(?:^|\.)heads\.(\d+)\.", key) for key in keys]
    indices = sorted({int(match[1]) for match in found if match})
    if not indices:
        return ""
    return f"head{'s' * (len(indices) > 1)} {', '.join(map(str, indices))}: "


def first_names(names: list[str]) -> str:
    """Join the first few names, for a message of one line."""
    return ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
