# SPDX-License-Identifier: Apache-2.0
"""Choose an exit and a policy by a time budget, from measured times. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Budget(NamedTuple):
    """The time that transcribing may take.

    Arguments
    ---------
    rtf : float | None
        Seconds of computation per second of audio.
    ms : float | None
        Milliseconds per call; the slowest call counts.

    Example
    -------
    >>> Budget(ms=200.0).fits({"slowest_call_s": 0.1, "rtf": 0.01}), str(Budget(rtf=0.5))
    (True, 'RTF 0.5')
    """

    rtf: float | None = None
    ms: float | None = None

    def taken(self, row: Mapping) -> float:
        """Return what a row of times takes, in the unit of the budget."""
        return row["rtf"] if self.ms is None else 1000 * row["slowest_call_s"]

    def fits(self, row: Mapping) -> bool:
        """Whether a row of times is within the budget."""
        return self.taken(row) <= (self.rtf if self.ms is None else self.ms)

    def told(self, taken: float) -> str:
        """Return what was taken with its unit."""
        return f"RTF {taken:.5f}" if self.ms is None else f"{taken:.2f} ms"

    def __str__(self) -> str:
        return f"RTF {self.rtf:g}" if self.ms is None else f"{self.ms:g} ms"


def choose(times: Mapping, budget: Budget, command: str) -> dict:
    """Choose the deepest static exit, and the deepest limit of the calibrated policy, that fit a budget.

    Arguments
    ---------
    times : mapping
        ``exits`` and ``policies``: rows of :func:`~ee_runtime.bench.times.time_row` in the order of the layers.
    budget : Budget
        The budget.
    command : str
        Start of the command line that transcribes with the model.

    Returns
    -------
    dict
        ``exit`` and ``policy``: None if nothing fits, else ``layer``, ``taken`` in the unit of the budget, and
        ``command``; the policy also has ``mean_layer``. ``first``: ``layer`` and ``taken`` of the first exit.
    """
    first = times["exits"][0]
    return {
        "budget": {name: value for name, value in budget._asdict().items() if value is not None},
        "exit": _deepest(times["exits"], budget, lambda layer: f"{command} --layer {layer} FILE"),
        "policy": _deepest(
            times["policies"], budget, lambda layer: f"{command}{_limits(layer, times['policies'], budget)} FILE"
        ),
        "first": {"layer": first["layer"], "taken": budget.taken(first)},
    }


def _deepest(rows: Sequence[Mapping], budget: Budget, command) -> dict | None:
    fitting = [row for row in rows if budget.fits(row)]
    if not fitting:
        return None
    row = fitting[-1]
    found = {"layer": row["layer"], "taken": budget.taken(row), "command": command(row["layer"])}
    return found | ({"mean_layer": row["mean_layer"]} if "mean_layer" in row else {})


def _limits(layer: int, rows: Sequence[Mapping], budget: Budget) -> str:
    """Return the options that limit the policy; the deadline holds for recordings that were not measured, too."""
    limit = "" if layer == rows[-1]["layer"] else f" --max-layer {layer}"
    return limit if budget.ms is None else f"{limit} --deadline-ms {budget.ms:g}"


def answer_lines(answer: Mapping, budget: Budget) -> list[str]:
    """Describe an answer of :func:`choose`: what fits and how to use it, or what the first exit takes."""
    static, policy, first = answer["exit"], answer["policy"], answer["first"]
    lines = []
    if static is not None:
        lines.append(f"static exit at layer {static['layer']}, {budget.told(static['taken'])}: {static['command']}")
    if policy is not None:
        lines.append(
            f"policy up to layer {policy['layer']}, {budget.told(policy['taken'])}, mean layer "
            f"{policy['mean_layer']:.2f}: {policy['command']}"
        )
    nothing = f"nothing fits: the first exit, layer {first['layer']}, takes {budget.told(first['taken'])}"
    return [f"within {budget}: {line}" for line in lines or [nothing]]
