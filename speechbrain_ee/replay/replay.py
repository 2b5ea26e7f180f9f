# SPDX-License-Identifier: Apache-2.0
"""Exit policies over cached scores: what would have happened, at what cost. No torch.

``utterances`` are dicts of the form of ``utterances.jsonl``; ``hypothesis``, ``macs`` and
``duration`` may be missing. ``macs`` of an exit is the whole cost up to it, every head on the way and the decoder
included, ``static_macs`` the cost with its own head alone; the part ``decoder_macs`` of either is what policies do not
know yet when they decide. Full depth costs ``static_macs`` of the last exit, and shares of cost are shares of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from speechbrain_ee.policies import Look, Policy
from speechbrain_ee.policies.scores import SCORES


@dataclass(frozen=True)
class ReplayResult:
    """What a policy would have done over a test set.

    Arguments
    ---------
    exit_indices : list of int
        Exit taken by each utterance.
    wer : float
        Pooled word error rate in percent of the texts at those exits.
    mean_layer : float
        Mean exit layer over utterances.
    macs_per_s : float, optional
        MACs to the exits taken per second of audio; None if cost or durations are unknown.
    histogram : dict of int to int
        Number of utterances per exit layer, zeros included.
    """

    exit_indices: list[int]
    wer: float
    mean_layer: float
    macs_per_s: float | None
    histogram: dict[int, int]


def replay(policy: Policy, utterances: Sequence[Mapping], clock: Callable[[], float] | None = None) -> ReplayResult:
    """Let a policy decide over cached scores, in the order of the file.

    Arguments
    ---------
    policy : Policy
        When to stop.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    clock : callable, optional
        For a policy with a deadline: gives what was recorded, first the start of an utterance, then the time of each
        look.

    Returns
    -------
    ReplayResult
        The same exits as a live run's, and what they cost.

    Raises
    ------
    ValueError
        If there are no utterances, they differ in their exits, or a score is missing.

    Example
    -------
    >>> from speechbrain_ee.policies import ScoreThreshold
    >>> exits = [{"layer": layer, "errors": {"S": s, "D": 0, "I": 0}, "scores": {"entropy": e}}
    ...          for layer, s, e in ((2, 1, 0.2), (4, 0, 0.1))]
    >>> replay(ScoreThreshold("entropy", 0.1), [{"num_words": 5, "exits": exits}]).mean_layer
    4.0
    """
    counts = ExitCounts.of(utterances)
    indices = [_exit_taken(policy, utterance, counts.exit_layers, clock) for utterance in utterances]
    return _result(counts.paid_by(policy), np.asarray(indices))


def static_wer(utterances: Sequence[Mapping]) -> dict[int, float]:
    """Pooled WER in percent of every static exit.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    dict of int to float
        WER by exit layer.
    """
    counts = ExitCounts.of(utterances)
    wers = 100.0 * counts.errors.sum(axis=0) / counts.words.sum()
    return dict(zip(counts.exit_layers, wers.tolist(), strict=True))


def oracle(utterances: Sequence[Mapping]) -> dict[str, float]:
    """The bound of every policy: the earliest exit with the fewest errors for each utterance.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    dict
        ``{"wer": percent, "mean_layer": layers}``.
    """
    result = oracle_result(utterances)
    return {"wer": result.wer, "mean_layer": result.mean_layer}


def oracle_result(utterances: Sequence[Mapping]) -> ReplayResult:
    """The oracle with its exits and its cost.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    ReplayResult
        As of a policy that knew the errors.
    """
    counts = ExitCounts.of(utterances)
    return _result(counts, counts.errors.argmin(axis=1))  # argmin: the first of equals


@dataclass(frozen=True)
class ExitCounts:
    """Lines of ``utterances.jsonl`` as arrays, without scores; MACs and seconds are None where one is unknown."""

    exit_layers: tuple[int, ...]
    errors: np.ndarray  # (utterances, exits)
    words: np.ndarray  # (utterances,)
    macs: np.ndarray | None  # (utterances, exits), with every head on the way
    static_macs: np.ndarray | None  # with the exit's own head alone
    decoder_macs: np.ndarray  # what of either is the attention decoder's
    seconds: float | None

    @classmethod
    def of(cls, utterances: Sequence[Mapping]) -> ExitCounts:
        """Count.

        Raises
        ------
        ValueError
            If there are no utterances or reference words, or they differ in their exits.
        """
        if len(utterances) == 0:
            raise ValueError("no utterances to replay; evaluate a manifest first")
        layers = tuple(e["layer"] for e in utterances[0]["exits"])
        for number, utterance in enumerate(utterances, start=1):
            here = tuple(e["layer"] for e in utterance["exits"])
            if here != layers:
                raise ValueError(
                    f"utterance {number} has exit layers {here}, the first one has {layers}; "
                    "use utterances of one model"
                )
        words = np.asarray([u["num_words"] for u in utterances])
        if words.sum() == 0:
            raise ValueError("a WER needs reference words, and these utterances have none")
        errors = [[sum(e["errors"].values()) for e in u["exits"]] for u in utterances]
        macs = _table(utterances, "macs")
        static = _table(utterances, "static_macs")
        seconds = [u.get("duration") for u in utterances]
        return cls(
            exit_layers=layers,
            errors=np.asarray(errors),
            words=words,
            macs=macs,
            static_macs=macs if static is None else static,
            decoder_macs=np.asarray([[e.get("decoder_macs", 0) for e in u["exits"]] for u in utterances], dtype=float),
            seconds=None if None in seconds else float(sum(seconds)) or None,
        )

    @property
    def full_macs(self) -> float | None:
        """Cost of full depth, of which every share is a share: to the last exit with its head alone."""
        return None if self.static_macs is None else float(self.static_macs[:, -1].sum())

    def paid_by(self, policy: Policy) -> ExitCounts:
        """The same with what a policy spends: the heads it needs, and the decoder where its scores come from it."""
        if self.macs is None:
            return self
        looks = np.array([policy.needs_head(index, self.exit_layers) for index in range(len(self.exit_layers))])
        earlier = np.arange(len(looks))
        share = (np.cumsum(looks) - looks) / np.maximum(earlier, 1)  # of the heads before an exit
        macs = self.static_macs + share * (self.macs - self.static_macs)
        if any(SCORES[name].from_decoder for name in policy.score_names):
            macs = macs + np.cumsum(self.decoder_macs * looks, axis=1) - self.decoder_macs * looks
        return replace(self, macs=macs)


def _table(utterances: Sequence[Mapping], name: str) -> np.ndarray | None:
    rows = [[exit.get(name) for exit in utterance["exits"]] for utterance in utterances]
    return None if any(None in row for row in rows) else np.asarray(rows, dtype=float)


def _exit_taken(
    policy: Policy, utterance: Mapping, exit_layers: tuple[int, ...], clock: Callable[[], float] | None
) -> int:
    exits = utterance["exits"]
    look = first_look(utterance, exit_layers)
    if clock is not None:
        look.clock, look.started = clock, clock()
    for look.exit_index, exit in enumerate(exits):
        if not policy.needs_head(look.exit_index, exit_layers):
            if policy.cuts(look):
                return look.exit_index
            continue  # as in a live run: no head, no score
        look.scores.append(exit["scores"])
        if policy.stop(look):
            return look.exit_index
    return len(exits) - 1


def first_look(utterance: Mapping, exit_layers: tuple[int, ...]) -> Look:
    """What a policy sees before the first exit: costs and facts, no score yet."""
    facts = {} if utterance.get("duration") is None else {"duration": utterance["duration"]}
    macs = [exit.get("macs") for exit in utterance["exits"]]
    if None not in macs:  # a live run cannot know what decoding will cost
        macs = [cost - exit.get("decoder_macs", 0) for cost, exit in zip(macs, utterance["exits"], strict=True)]
    return Look(0, exit_layers, scores=[], macs=() if None in macs else macs, facts=facts)


def _result(counts: ExitCounts, indices: np.ndarray) -> ReplayResult:
    row = np.arange(len(indices))
    taken = np.bincount(indices, minlength=len(counts.exit_layers))
    macs = None
    if counts.macs is not None and counts.seconds is not None:
        macs = float(counts.macs[row, indices].sum() / counts.seconds)
    return ReplayResult(
        exit_indices=indices.tolist(),
        wer=float(100.0 * counts.errors[row, indices].sum() / counts.words.sum()),
        mean_layer=float(taken @ counts.exit_layers / len(indices)),
        macs_per_s=macs,
        histogram=dict(zip(counts.exit_layers, taken.tolist(), strict=True)),
    )
