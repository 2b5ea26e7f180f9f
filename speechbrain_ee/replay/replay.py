# SPDX-License-Identifier: Apache-2.0
"""Run exit policies over cached scores: exits taken, WER and cost. Needs NumPy, no torch.

``utterances`` are dicts as in ``utterances.jsonl``; ``hypothesis``, ``macs`` and ``duration`` may be missing. ``macs``
of an exit is the total cost up to it, the heads of all earlier exits and the decoder included; ``static_macs`` is the
cost with its own head only. Both include ``decoder_macs``, which a policy cannot know when it decides. Full depth costs
``static_macs`` of the last exit; shares of cost are relative to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ee_runtime.policies import Look, Policy
from ee_runtime.policies.scores import SCORES


@dataclass(frozen=True)
class ReplayResult:
    """Result of a policy on a test set.

    Arguments
    ---------
    exit_indices : list of int
        Exit index taken by each utterance.
    wer : float
        Pooled word error rate in percent at those exits.
    mean_layer : float
        Mean exit layer over utterances.
    macs_per_s : float, optional
        MACs to those exits per second of audio; None if costs or durations are unknown.
    histogram : dict of int to int
        Number of utterances per exit layer, zeros included.
    """

    exit_indices: list[int]
    wer: float
    mean_layer: float
    macs_per_s: float | None
    histogram: dict[int, int]


def replay(policy: Policy, utterances: Sequence[Mapping], clock: Callable[[], float] | None = None) -> ReplayResult:
    """Run a policy over cached scores, in the order of the file.

    Arguments
    ---------
    policy : Policy
        The policy.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    clock : callable, optional
        For a policy with a deadline: returns recorded times, first the start of an utterance, then the time at each
        exit where the policy decides.

    Returns
    -------
    ReplayResult
        The exits that a live run takes, and their cost.

    Raises
    ------
    ValueError
        If there are no utterances, their exits differ, or a score is missing.

    Example
    -------
    >>> from ee_runtime.policies import ScoreThreshold
    >>> exits = [{"layer": layer, "errors": {"S": s, "D": 0, "I": 0}, "scores": {"entropy": e}}
    ...          for layer, s, e in ((2, 1, 0.2), (4, 0, 0.1))]
    >>> replay(ScoreThreshold("entropy", 0.1), [{"num_words": 5, "exits": exits}]).mean_layer
    4.0
    """
    counts = ExitCounts.of(utterances)
    indices = [_exit_taken(policy, utterance, counts.exit_layers, clock) for utterance in utterances]
    return _result(counts.paid_by(policy), np.asarray(indices))


def static_wer(utterances: Sequence[Mapping]) -> dict[int, float]:
    """Compute the pooled WER of every static exit.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    dict of int to float
        WER in percent by exit layer.
    """
    counts = ExitCounts.of(utterances)
    wers = 100.0 * counts.errors.sum(axis=0) / counts.words.sum()
    return dict(zip(counts.exit_layers, wers.tolist(), strict=True))


def oracle(utterances: Sequence[Mapping]) -> dict[str, float]:
    """Compute WER and mean exit layer of the oracle, the bound of every policy.

    The oracle takes the earliest exit with the fewest errors of each utterance.

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
    """Compute the result of the oracle with its exits and cost.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    ReplayResult
        The result.
    """
    counts = ExitCounts.of(utterances)
    return _result(counts, counts.errors.argmin(axis=1))  # the first of equal values


@dataclass(frozen=True)
class ExitCounts:
    """Errors, words and costs of ``utterances.jsonl`` as arrays; MACs and seconds are None if one is missing."""

    exit_layers: tuple[int, ...]
    errors: np.ndarray  # (utterances, exits)
    words: np.ndarray  # (utterances,)
    macs: np.ndarray | None  # (utterances, exits), with the heads of all earlier exits
    static_macs: np.ndarray | None  # (utterances, exits), with the exit's own head only
    decoder_macs: np.ndarray  # (utterances, exits), the attention decoder's part of both
    seconds: float | None

    @classmethod
    def of(cls, utterances: Sequence[Mapping]) -> ExitCounts:
        """Read the arrays from lines of ``utterances.jsonl``.

        Raises
        ------
        ValueError
            If there are no utterances or reference words, or the exits differ.
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
            raise ValueError("a WER needs reference words, but these utterances have none")
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
        """Cost of full depth: up to the last exit, with its head only."""
        return None if self.static_macs is None else float(self.static_macs[:, -1].sum())

    def paid_by(self, policy: Policy) -> ExitCounts:
        """Return the counts with the MACs of a policy: those of the heads and the decoder that its scores need."""
        if self.macs is None:
            return self
        has_head = np.array([policy.needs_head(index, self.exit_layers) for index in range(len(self.exit_layers))])
        earlier = np.arange(len(has_head))
        share = (np.cumsum(has_head) - has_head) / np.maximum(earlier, 1)  # of the earlier heads
        macs = self.static_macs + share * (self.macs - self.static_macs)
        if any(SCORES[name].from_decoder for name in policy.score_names):
            macs = macs + np.cumsum(self.decoder_macs * has_head, axis=1) - self.decoder_macs * has_head
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
            continue  # as in a live run: no head is computed
        look.scores.append(exit["scores"])
        if policy.stop(look):
            return look.exit_index
    return len(exits) - 1


def first_look(utterance: Mapping, exit_layers: tuple[int, ...]) -> Look:
    """Return the inputs of a policy before the first exit: costs and facts, but no scores."""
    facts = {} if utterance.get("duration") is None else {"duration": utterance["duration"]}
    macs = [exit.get("macs") for exit in utterance["exits"]]
    if None not in macs:  # a live run does not know the cost of decoding in advance
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
