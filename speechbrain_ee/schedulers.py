# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules, each made for a known number of optimizer steps and checkpointed by SpeechBrain.

A parameter group can have a rate of its own: ``lr_factor`` times the schedule's, see :func:`give_lr_factor`.
"""

import math
from collections.abc import Iterable

import torch
from speechbrain.nnet.schedulers import NoamScheduler
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks

SCHEDULES = ("warmup_cosine", "noam")


def schedule(kind: str, *, total_steps: int, lr: float, warmup_steps: int):
    """Make a schedule by name.

    Arguments
    ---------
    kind : str
        ``warmup_cosine`` (:class:`WarmupCosine`) or ``noam`` (:func:`noam`).
    total_steps : int
        Optimizer steps of the whole training.
    lr : float
        The highest rate.
    warmup_steps : int
        Optimizer steps to reach it.

    Returns
    -------
    WarmupCosine | NoamScheduler
        Called with the optimizer after each step.

    Raises
    ------
    ValueError
        If there is no such schedule, or the warm-up does not fit.

    Example
    -------
    >>> schedule("cosine", total_steps=100, lr=1.0, warmup_steps=10)
    Traceback (most recent call last):
    ValueError: lr_schedule is 'cosine': choose from warmup_cosine, noam
    """
    if kind not in SCHEDULES:
        raise ValueError(f"lr_schedule is {kind!r}: choose from {', '.join(SCHEDULES)}")
    make = noam if kind == "noam" else WarmupCosine
    return make(total_steps=total_steps, lr=lr, warmup_steps=warmup_steps)


def give_lr_factor(optimizer: torch.optim.Optimizer, parameters: Iterable[torch.nn.Parameter], factor: float) -> None:
    """Move parameters into groups of their own, whose rate is ``factor`` times the schedule's.

    Arguments
    ---------
    optimizer : torch.optim.Optimizer
        Its groups are split.
    parameters : Iterable
        Those to move.
    factor : float
        Above 0; a pretrained encoder wants less than its new heads.

    Raises
    ------
    ValueError
        If the factor is not above 0.

    Example
    -------
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "heads": torch.nn.Linear(2, 2)})
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    >>> give_lr_factor(optimizer, model["encoder"].parameters(), 0.1)
    >>> _ = schedule("warmup_cosine", total_steps=10, lr=1.0, warmup_steps=1)(optimizer)
    >>> [group["lr"] for group in optimizer.param_groups]
    [1.0, 0.1]
    """
    if not factor > 0:
        raise ValueError(f"the encoder's factor of the learning rate is {factor}: give more than 0, or freeze it")
    moved = {id(parameter) for parameter in parameters}
    for group in list(optimizer.param_groups):
        own = [parameter for parameter in group["params"] if id(parameter) in moved]
        if own:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in moved]
            optimizer.add_param_group({**group, "params": own, "lr_factor": factor})


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_factor", 1.0)


@register_checkpoint_hooks
class _Noam(NoamScheduler):
    """SpeechBrain's, with rates per group."""

    def __call__(self, optimizer):
        before, after = super().__call__(optimizer)
        _set_rate(optimizer, after)
        return before, after


def noam(*, total_steps: int, lr: float, warmup_steps: int) -> NoamScheduler:
    """SpeechBrain's Noam schedule: linear warm-up to ``lr``, then falling with the square root of the step.

    Arguments
    ---------
    total_steps : int
        Not used: the schedule has no end.
    lr : float
        The highest rate.
    warmup_steps : int
        Optimizer steps to reach it.

    Returns
    -------
    NoamScheduler
        Called with the optimizer after each step.

    Example
    -------
    >>> noam(total_steps=100, lr=1.0, warmup_steps=10).lr_initial
    1.0
    """
    del total_steps
    if warmup_steps < 1:
        raise ValueError(f"warmup_steps={warmup_steps}: give at least 1")
    return _Noam(lr_initial=lr, n_warmup_steps=warmup_steps)


@register_checkpoint_hooks
class WarmupCosine:
    """Linear warm-up to ``lr``, then half a cosine to ``final_share * lr`` at the last step.

    Arguments
    ---------
    total_steps : int
        Optimizer steps of the whole training.
    lr : float
        The highest rate.
    warmup_steps : int
        Optimizer steps to reach it.
    final_share : float
        Share of ``lr`` that is left at the end.

    Example
    -------
    >>> schedule = WarmupCosine(total_steps=20, lr=1.0, warmup_steps=10)
    >>> [round(schedule.rate(step), 2) for step in (0, 5, 10, 15, 20)]
    [0.0, 0.5, 1.0, 0.51, 0.02]
    """

    def __init__(self, *, total_steps: int, lr: float, warmup_steps: int, final_share: float = 0.02):
        if not 0 < warmup_steps < total_steps:
            raise ValueError(
                f"warmup_steps={warmup_steps} do not fit into {total_steps} optimizer steps: "
                "give fewer, or train for more epochs"
            )
        self.total_steps = total_steps
        self.lr = lr
        self.warmup_steps = warmup_steps
        self.final_share = final_share
        self.num_steps = 0

    def rate(self, step: int) -> float:
        """Learning rate at an optimizer step."""
        if step < self.warmup_steps:
            return self.lr * step / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.lr * (self.final_share + (1 - self.final_share) * cosine)

    def __call__(self, optimizer: torch.optim.Optimizer) -> tuple[float, float]:
        """Set the rate of the next step; returns the rate before and after."""
        before = optimizer.param_groups[0]["lr"]
        self.num_steps += 1
        after = self.rate(self.num_steps)
        _set_rate(optimizer, after)
        return before, after

    @mark_as_saver
    def save(self, path):
        """Save the number of steps."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(str(self.num_steps))

    @mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Load the number of steps."""
        del end_of_epoch
        with open(path, encoding="utf-8") as file:
            self.num_steps = int(file.read())
