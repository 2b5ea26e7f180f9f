# SPDX-License-Identifier: Apache-2.0
"""Average checkpoints, and mix trained with initial weights."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from speechbrain.utils import checkpoints as sb_checkpoints
from speechbrain.utils.checkpoints import Checkpointer

from ee_runtime.text.error_units import WORD, ErrorUnit
from speechbrain_ee.errors import CheckpointError
from speechbrain_ee.lobes.state_dicts import first_names, other_shapes

WORSE_BY = 0.5  # points of the error rate, above which an average is reported


def average_checkpoints(
    checkpointer: Checkpointer, recoverable_name: str, num: int, *, min_key: str
) -> dict[str, torch.Tensor]:
    """Average the state dicts of the best checkpoints; integer entries are taken from the best one.

    Arguments
    ---------
    checkpointer : Checkpointer
        Finds the checkpoints.
    recoverable_name : str
        Name of the recoverable to average, e.g. "model".
    num : int
        Number of checkpoints, at least 1; fewer are used if fewer exist.
    min_key : str
        Key of the checkpoints' meta by which they are ranked, lower is better, e.g. "WER".

    Returns
    -------
    dict[str, torch.Tensor]
        State dict on the CPU; each entry keeps the type that it was saved in.

    Raises
    ------
    CheckpointError
        If no checkpoint has ``min_key``, if one lacks the recoverable, or if their keys or shapes differ.

    Example
    -------
    >>> from speechbrain_ee.training.checkpoints import AtomicCheckpointer
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


def average_warning(checkpointer: Checkpointer, rate: float, num: int, *, unit: ErrorUnit = WORD) -> str | None:
    """Return a warning if an average has a higher error rate on dev than the best checkpoint, as after few epochs.

    Arguments
    ---------
    checkpointer : Checkpointer
        Finds the checkpoints.
    rate : float
        Error rate of the average on dev in percent, counted as that in the checkpoints' meta.
    num : int
        Number of checkpoints that were averaged.
    unit : ErrorUnit
        What errors are counted in.

    Example
    -------
    >>> from speechbrain_ee.training.checkpoints import AtomicCheckpointer
    >>> checkpointer = AtomicCheckpointer(getfixture("tmp_path"))
    >>> for wer in (90.0, 80.0):
    ...     _ = checkpointer.save_checkpoint({"wer": wer})
    >>> average_warning(checkpointer, 80.5, 2)
    >>> average_warning(checkpointer, 84.0, 2)
    'the average of 2 checkpoints has 84.0 % WER on dev, and the best of them 80.0 %: give --average_checkpoints 1'
    """
    best = checkpointer.find_checkpoint(min_key=unit.key).meta[unit.key]
    if num == 1 or rate <= best + WORSE_BY:
        return None
    return (
        f"the average of {num} checkpoints has {rate:.1f} % {unit.rate} on dev, and the best of them {best:.1f} %: "
        "give --average_checkpoints 1"
    )


def mix_state_dicts(
    trained: Mapping[str, torch.Tensor], initial: Mapping[str, torch.Tensor], *, share: float
) -> dict[str, torch.Tensor]:
    """Interpolate between two state dicts of one model; integer entries are taken from the trained one.

    A point between the pretrained and the fine-tuned weights is often better on both the old and the new data
    (Wortsman et al., arXiv 2109.01903).

    Arguments
    ---------
    trained : Mapping
        State after training.
    initial : Mapping
        State before training, with the same names and shapes.
    share : float
        Weight of ``initial``, from 0 to 1.

    Returns
    -------
    dict[str, torch.Tensor]
        State dict; each entry has the type that it has in ``trained``.

    Example
    -------
    >>> mix_state_dicts({"weight": torch.tensor([4.0])}, {"weight": torch.tensor([0.0])}, share=0.25)
    {'weight': tensor([3.])}
    """
    if share == 0:
        return dict(trained)
    # Double precision on the CPU: some devices (Apple's GPUs) do not support it.
    return {
        key: ((1 - share) * value.cpu().double() + share * initial[key].cpu().double()).to(value.dtype).to(value.device)
        if _is_averaged(value)
        else value
        for key, value in trained.items()
    }


def _mean_state_dict(named_state_dicts: Iterable[tuple[Path, dict]]) -> dict[str, torch.Tensor]:
    """Average pairs of (path for the error message, state dict), loaded one at a time."""
    iterator = iter(named_state_dicts)
    best_path, best = next(iterator)
    # Sum in double precision: rounding errors of half precision would accumulate.
    total = {k: v.cpu().double() for k, v in best.items() if _is_averaged(v)}
    count = 1
    for path, state_dict in iterator:
        differing = sorted(best.keys() ^ state_dict.keys()) + other_shapes(best, state_dict)
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
