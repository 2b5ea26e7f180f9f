# SPDX-License-Identifier: Apache-2.0
"""Run exit policies over cached scores: exits taken, error rate and cost. Needs NumPy, no torch.

``utterances`` are dicts as in ``utterances.jsonl``; ``hypothesis``, ``macs`` and ``duration`` may be missing. ``macs``
of an exit is the total cost up to it, the heads of all earlier exits and the decoder included; ``static_macs`` is the
cost with its own head only. Both include ``decoder_macs``, which a policy cannot know when it decides. Full depth costs
``static_macs`` of the last exit; shares of cost are relative to that.

Errors are counted in words or in characters, as the utterances are marked
(:func:`ee_runtime.text.error_units.counted_in`); error rates are WER or CER accordingly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ee_runtime.policies import Look, Policy
from ee_runtime.policies.scores import SCORES
from ee_runtime.text.error_units import WORD, ErrorUnit, unit_of_lines


@dataclass(frozen=True)
class ReplayResult:
    """Result of a policy on a test set.

    Arguments
    ---------
    exit_indices : list of int
        Exit index taken by each utterance.
    error_rate : float
        Pooled error rate in percent at those exits.
    mean_layer : float
        Mean exit layer over utterances.
    macs_per_s : float, optional
        MACs to those exits per second of audio; None if costs or durations are unknown.
    histogram : dict of int to int
        Number of utterances per exit layer, zeros included.
    unit : ErrorUnit
        What the errors are counted in.
    """

    exit_indices: list[int]
    error_rate: float
    mean_layer: float
    macs_per_s: float | None
    histogram: dict[int, int]
    unit: ErrorUnit = WORD

    @property
    def wer(self) -> float:
        """The error rate, if errors are counted in words."""
        if self.unit != WORD:
            raise ValueError(f"errors are counted in {self.unit.plural}: this result has a {self.unit.rate}, no WER")
        return self.error_rate


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
    """Compute the pooled WER (CER of utterances that are counted in characters) of every static exit.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    dict of int to float
        Error rate in percent by exit layer.
    """
    counts = ExitCounts.of(utterances)
    rates = 100.0 * counts.errors.sum(axis=0) / counts.lengths.sum()
    return dict(zip(counts.exit_layers, rates.tolist(), strict=True))


def oracle(utterances: Sequence[Mapping]) -> dict[str, float]:
    """Compute error rate and mean exit layer of the oracle, the bound of every policy.

    The oracle takes the earliest exit with the fewest errors of each utterance.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    dict
        ``{"wer": percent, "mean_layer": layers}``; ``cer`` instead of ``wer`` if characters are counted.
    """
    result = oracle_result(utterances)
    return {result.unit.key: result.error_rate, "mean_layer": result.mean_layer}


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
    """Errors, lengths and costs of ``utterances.jsonl`` as arrays; MACs and seconds are None if one is missing."""

    exit_layers: tuple[int, ...]
    errors: np.ndarray  # (utterances, exits)
    lengths: np.ndarray  # (utterances,), words or characters of the references
    macs: np.ndarray | None  # (utterances, exits), with the heads of all earlier exits
    static_macs: np.ndarray | None  # (utterances, exits), with the exit's own head only
    decoder_macs: np.ndarray  # (utterances, exits), the attention decoder's part of both
    seconds: float | None
    unit: ErrorUnit = WORD

    @property
    def words(self) -> np.ndarray:
        """The lengths, if errors are counted in words."""
        if self.unit != WORD:
            raise ValueError(f"errors are counted in {self.unit.plural}: use lengths")
        return self.lengths

    @classmethod
    def of(cls, utterances: Sequence[Mapping]) -> ExitCounts:
        """Read the arrays from lines of ``utterances.jsonl``.

        Raises
        ------
        ValueError
            If there are no utterances or reference words (characters), or the exits or units differ.
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
        unit = unit_of_lines(utterances)
        lengths = np.asarray([u[unit.length] for u in utterances])
        if lengths.sum() == 0:
            raise ValueError(f"a {unit.rate} needs reference {unit.plural}, but these utterances have none")
        errors = [[sum(e[unit.errors].values()) for e in u["exits"]] for u in utterances]
        macs = _table(utterances, "macs")
        static = _table(utterances, "static_macs")
        seconds = [u.get("duration") for u in utterances]
        return cls(
            exit_layers=layers,
            errors=np.asarray(errors),
            lengths=lengths,
            macs=macs,
            static_macs=macs if static is None else static,
            decoder_macs=np.asarray([[e.get("decoder_macs", 0) for e in u["exits"]] for u in utterances], dtype=float),
            seconds=None if None in seconds else float(sum(seconds)) or None,
            unit=unit,
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
        error_rate=float(100.0 * counts.errors[row, indices].sum() / counts.lengths.sum()),
        mean_layer=float(taken @ counts.exit_layers / len(indices)),
        macs_per_s=macs,
        histogram=dict(zip(counts.exit_layers, taken.tolist(), strict=True)),
        unit=counts.unit,
    )
