# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules by optimizer step, as torch's ``LambdaLR``, which SpeechBrain's checkpointer saves.

Parameter groups can have different learning rates, see :func:`give_lr_factor`.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LambdaLR

SCHEDULES = ("warmup_cosine", "noam")
FINAL_SHARE = 0.02  # of the peak learning rate, at the end of warmup_cosine
WARMUP_SHARE = 0.25  # of all steps, if the warm-up of warmup_cosine would be longer than the training


def schedule(kind: str, *, optimizer: torch.optim.Optimizer, total_steps: int, warmup_steps: int) -> LambdaLR:
    """Make a schedule by name and set the learning rate of the first step.

    Arguments
    ---------
    kind : str
        ``warmup_cosine``: linear warm-up, then half a cosine down to 2 % of the peak at the last step; ``noam``:
        linear warm-up, then decay with the inverse square root of the step.
    optimizer : torch.optim.Optimizer
        The learning rate of each parameter group is its peak.
    total_steps : int
        Number of optimizer steps of the whole training.
    warmup_steps : int
        Number of optimizer steps until the peak is reached, see :func:`fitting_warmup`.

    Returns
    -------
    LambdaLR
        Call its ``step`` after each step of the optimizer.

    Raises
    ------
    ValueError
        If the schedule is unknown, or the warm-up is not at least one step.

    Example
    -------
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    >>> made = schedule("warmup_cosine", optimizer=optimizer, total_steps=100, warmup_steps=10)
    >>> made.get_last_lr()
    [0.2]
    >>> schedule("cosine", optimizer=optimizer, total_steps=100, warmup_steps=10)
    Traceback (most recent call last):
    ValueError: lr_schedule is 'cosine': choose from warmup_cosine, noam
    """
    if kind not in SCHEDULES:
        raise ValueError(f"lr_schedule is {kind!r}: choose from {', '.join(SCHEDULES)}")
    warmup_steps = fitting_warmup(kind, warmup_steps, total_steps)
    share = _noam(warmup_steps) if kind == "noam" else _warmup_cosine(warmup_steps, total_steps)
    # torch counts steps from 0, at which the warm-up would give a learning rate of 0.
    return LambdaLR(optimizer, lambda steps_done: share(steps_done + 1))


def fitting_warmup(kind: str, warmup_steps: int, total_steps: int) -> int:
    """Return the number of warm-up steps: a quarter of all steps if the wanted ones do not fit into the training.

    The shape of ``warmup_cosine`` depends on the number of all steps, which a small corpus makes small. ``noam`` does
    not depend on it.

    Arguments
    ---------
    kind : str
        See :func:`schedule`.
    warmup_steps : int
        The wanted number.
    total_steps : int
        Number of optimizer steps of the whole training.

    Raises
    ------
    ValueError
        If the wanted number is below 1.

    Example
    -------
    >>> fitting_warmup("warmup_cosine", 250, 2700), fitting_warmup("warmup_cosine", 250, 72)
    (250, 18)
    """
    if warmup_steps < 1:
        raise ValueError(f"warmup_steps={warmup_steps}: give at least 1")
    if kind == "noam" or warmup_steps < total_steps:
        return warmup_steps
    return max(1, int(WARMUP_SHARE * total_steps))


def load_schedule(schedule: LambdaLR, path: str | Path, end_of_epoch: bool = False) -> None:
    """Load the number of steps done, a load hook for SpeechBrain's checkpointer.

    The shape of the schedule is that of the current command, which may train for more epochs. Earlier versions saved
    the number of the next step as text (``warmup_cosine``) or in SpeechBrain's format (``noam``); both can be loaded.

    Arguments
    ---------
    schedule : LambdaLR
        Made by :func:`schedule`.
    path : str | Path
        The schedule's file in a checkpoint.
    end_of_epoch : bool
        Not used.
    """
    del end_of_epoch
    try:
        steps_done = int(Path(path).read_text("utf-8")) - 1
    except ValueError:
        state = torch.load(path, weights_only=True)
        steps_done = state["n_steps"] - 1 if "n_steps" in state else state["last_epoch"]
    schedule.load_state_dict(schedule.state_dict() | {"last_epoch": steps_done})


def give_lr_factor(optimizer: torch.optim.Optimizer, parameters: Iterable[torch.nn.Parameter], factor: float) -> None:
    """Move parameters into separate groups with ``factor`` times the learning rate.

    Call it before :func:`schedule`, which takes the learning rate of each group as its peak.

    Arguments
    ---------
    optimizer : torch.optim.Optimizer
        Its parameter groups are split.
    parameters : Iterable
        Parameters to move.
    factor : float
        Above 0; a pretrained encoder usually needs a lower learning rate than new heads.

    Raises
    ------
    ValueError
        If the factor is not above 0.

    Example
    -------
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "heads": torch.nn.Linear(2, 2)})
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    >>> give_lr_factor(optimizer, model["encoder"].parameters(), 0.1)
    >>> _ = schedule("warmup_cosine", optimizer=optimizer, total_steps=10, warmup_steps=2)
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.5, 0.05]
    """
    if not factor > 0:
        raise ValueError(f"encoder_lr_factor is {factor}: give a number above 0, or freeze the encoder")
    moved = {id(parameter) for parameter in parameters}
    for group in list(optimizer.param_groups):
        own = [parameter for parameter in group["params"] if id(parameter) in moved]
        if own:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in moved]
            optimizer.add_param_group({**group, "params": own, "lr": factor * group["lr"]})


def _warmup_cosine(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    def share(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * progress))

    return share


def _noam(warmup_steps: int) -> Callable[[int], float]:
    return lambda step: min(step / warmup_steps, math.sqrt(warmup_steps / step))
