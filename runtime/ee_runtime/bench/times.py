# SPDX-License-Identifier: Apache-2.0
"""Time every exit of one or two models in alternating rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ee_runtime.bench.inputs import BenchInput
from ee_runtime.policies import FixedExit
from ee_runtime.transcriber import Transcriber
from ee_runtime.transcript import Transcript

EXIT, POLICY = "exit", "policy"


class Run(NamedTuple):
    """What is timed.

    Arguments
    ---------
    kind : str
        ``exit``: a static exit, whose head alone is run; ``policy``: the policy of the calibration.
    layer : int
        The exit layer, or the deepest layer that the policy may reach.
    model : int
        Position of the model.
    options : dict
        Options of :meth:`Transcriber.transcribe_waveforms`.
    """

    kind: str
    layer: int
    model: int
    options: dict[str, Any]


class Measured(NamedTuple):
    """Times of one run.

    Arguments
    ---------
    run : Run
        The run.
    seconds : np.ndarray
        (rounds, calls).
    transcripts : list of Transcript
        One per waveform.
    """

    run: Run
    seconds: np.ndarray
    transcripts: list[Transcript]

    @property
    def round_seconds(self) -> np.ndarray:
        """Seconds of all calls together, (rounds,)."""
        return self.seconds.sum(axis=1)


def runs_of(models: Sequence[Transcriber], *, with_policies: bool) -> list[Run]:
    """Return the static exits of all models, and their calibrated policies with each limit on the layer.

    The same exit of two models stands side by side.
    """
    runs = []
    for number, model in enumerate(models):
        runs += [Run(EXIT, layer, number, {"policy": FixedExit(layer)}) for layer in model.exit_layers]
        if with_policies and model.calibrated_policy is not None:
            last = model.exit_layers[-1]
            limits = [(layer, None if layer == last else layer) for layer in model.exit_layers]
            runs += [Run(POLICY, layer, number, {"max_layer": limit}) for layer, limit in limits]
    return sorted(runs, key=lambda run: run[:3])


def measure(
    models: Sequence[Transcriber],
    given: BenchInput,
    *,
    rounds: int,
    with_policies: bool = False,
    before_round: Callable[[], None] = lambda: None,
) -> list[Measured]:
    """Time all runs of all models, after a warm-up.

    Arguments
    ---------
    models : sequence of Transcriber
        One or more models.
    given : BenchInput
        The waveforms.
    rounds : int
        Each round times every run once. Every other round is in reverse order, so that no run always follows the same.
    with_policies : bool
        Time the calibrated policies, too.
    before_round : callable
        Called before each round; one call that does not count follows.

    Returns
    -------
    list of Measured
        One per run, in the order of :func:`runs_of`. Features, encoder, head and decoding are timed; reading files is
        not.
    """
    runs = runs_of(models, with_policies=with_policies)
    transcripts = [
        [one for call in given.calls for one in models[run.model].transcribe_waveforms(call, **run.options)]
        for run in runs
    ]
    seconds = np.zeros((len(runs), rounds, len(given.calls)))
    for number in range(rounds):
        before_round()
        order = [*range(len(runs))][:: -1 if number % 2 else 1]
        _time(models[runs[order[0]].model], given.calls[0], runs[order[0]].options)  # refills the caches
        for row in order:
            seconds[row, number] = [_time(models[runs[row].model], call, runs[row].options) for call in given.calls]
    return [Measured(*row) for row in zip(runs, seconds, transcripts, strict=True)]


def _time(model: Transcriber, call: Sequence[np.ndarray], options: dict[str, Any]) -> float:
    begin = model.clock()
    model.transcribe_waveforms(call, **options)
    return model.clock() - begin


def time_row(measured: Measured, *, audio_s: float, gflops: float | None) -> dict:
    """Return the figures of a run.

    Arguments
    ---------
    measured : Measured
        The run.
    audio_s : float
        Seconds of audio.
    gflops : float | None
        Rate of matrix products of the machine; None if the model does not run on this CPU.

    Returns
    -------
    dict
        ``layer``; ``min_s`` and ``median_s``: seconds over the rounds; ``slowest_call_s``: median of the slowest call;
        ``rtf``: of the median; ``macs_per_s``: MACs per second of audio; ``gemm_share``: time of these MACs at the rate
        of matrix products, divided by ``min_s``. For a policy also ``mean_layer``.
    """
    totals, macs = measured.round_seconds, sum(one.macs for one in measured.transcripts)
    shortest, median = float(totals.min()), float(np.median(totals))
    row = {
        "layer": measured.run.layer,
        "min_s": shortest,
        "median_s": median,
        "slowest_call_s": float(np.median(measured.seconds, axis=0).max()),
        "rtf": median / audio_s,
        "macs_per_s": macs / audio_s,
        "gemm_share": None if gflops is None else 2 * macs / (gflops * 1e9) / shortest,
    }
    if measured.run.kind == POLICY:
        row["mean_layer"] = sum(one.exit_layer for one in measured.transcripts) / len(measured.transcripts)
    return row


def ratios(measured: Sequence[Measured]) -> list[dict]:
    """Compare the first model with the second: time divided by time in the same round.

    Returns
    -------
    list of dict
        ``kind``, ``layer``, ``other_layer``, and over the rounds ``median``, ``quartiles`` and ``range`` of the ratio.
        Exits are matched by layer. If the last layers differ, the last exits are compared, too.
    """
    found = []
    for kind in (EXIT, POLICY):
        own, other = (
            {one.run.layer: one for one in measured if (one.run.kind, one.run.model) == (kind, model)}
            for model in (0, 1)
        )
        pairs = [(layer, layer) for layer in own if layer in other]
        if own and other and max(own) != max(other):
            pairs.append((max(own), max(other)))
        found += [_ratio(kind, own[layer], other[against]) for layer, against in pairs]
    return found


def _ratio(kind: str, one: Measured, other: Measured) -> dict:
    low, quarter, median, three_quarters, high = np.percentile(
        one.round_seconds / other.round_seconds, [0, 25, 50, 75, 100]
    ).tolist()
    spread = {"median": median, "quartiles": [quarter, three_quarters], "range": [low, high]}
    return {"kind": kind, "layer": one.run.layer, "other_layer": other.run.layer} | spread
