# SPDX-License-Identifier: Apache-2.0
"""Targets of a calibration: how a threshold is chosen on a development set, one class per target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from ee_runtime.calibration.defaults import AVERAGE_DELTA, DEFAULT_DELTA, TEST_NAME
from ee_runtime.policies import FixedExit, LearnedThreshold, Policy, ThresholdPolicy
from ee_runtime.text.error_units import CHAR, WORD, ErrorUnit, unit_of_lines
from speechbrain_ee.calibration.path import PathLosses
from speechbrain_ee.calibration.risk import PSEUDO_LOSSES, LossSums, furthest_safe, p_values, unseen_loss
from speechbrain_ee.calibration.sample_size import fewest, sampling_units
from speechbrain_ee.replay.replay import replay
from speechbrain_ee.replay.speakers import sum_by_speaker
from speechbrain_ee.replay.sweeps import cheapest_threshold, choose_threshold


class Target(ABC):
    """Base class: chooses a threshold, and promises nothing unless a subclass says so."""

    def check(self, utterances: Sequence[Mapping]) -> None:
        """Check all utterances of a set, before half of them are used to fit a learned score."""
        del utterances

    @abstractmethod
    def choose(
        self, policy: ThresholdPolicy, utterances: Sequence[Mapping], path: Sequence[float]
    ) -> tuple[Policy, dict | None]:
        """Choose a threshold.

        Arguments
        ---------
        policy : ThresholdPolicy
            The policy; its own threshold is ignored.
        utterances : sequence of dict
            Lines of ``utterances.jsonl`` that nothing else was fitted on.
        path : sequence of float
            The thresholds of :func:`~speechbrain_ee.calibration.path.threshold_path`; used by promises only.

        Returns
        -------
        tuple of Policy and dict or None
            The policy, :class:`FixedExit` for full depth; and the record of the promise, None without a promise.

        Raises
        ------
        ValueError
            If the target cannot be reached, or there are too few utterances or speakers.
        """


@dataclass(frozen=True)
class MeanCost(Target):
    """The fewest errors at a mean cost of at most a share of the cost of full depth.

    Cost is counted in MACs, or in layers if MACs are unknown; full depth runs the last head only.

    Arguments
    ---------
    share : float
        In (0, 1].
    """

    share: float

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(
                f"mean_cost is {self.share}: give a share of the cost of full depth, above 0 and at most 1"
            )

    def choose(self, policy, utterances, path):
        """See :meth:`Target.choose`."""
        threshold, cheapest = cheapest_threshold(policy, utterances, self.share)
        if threshold is None:
            raise ValueError(
                f"no exit costs as little as {self.share:.3g} of full depth: the first one costs {cheapest:.3g}"
            )
        found = policy.with_threshold(threshold)
        rates = [replay(one, utterances).error_rate for one in (FixedExit(), found)]
        is_full_better = self.share == 1 and rates[0] < rates[1]
        return (FixedExit() if is_full_better else found), None


class LimitHere(Target):
    """A limit of one error rate on these utterances; no promise for others."""

    unit: ClassVar[ErrorUnit] = WORD

    def check(self, utterances):
        """See :meth:`Target.check`; the utterances must be counted in the unit of the limit."""
        if (found := unit_of_lines(utterances)) != self.unit:
            raise ValueError(
                f"the target is a limit of {self.unit.rate}, but the errors of this set are counted in {found.plural}: "
                f"give the limit of {found.rate}, or evaluate the set again with --error-unit {self.unit.name}"
            )


@dataclass(frozen=True)
class MaxWer(LimitHere):
    """The lowest cost at a WER of at most ``percent`` here; no promise for other utterances."""

    percent: float

    def choose(self, policy, utterances, path):
        """See :meth:`Target.choose`."""
        full = replay(FixedExit(), utterances).error_rate
        if full > self.percent:
            raise ValueError(
                f"no exit reaches a {self.unit.rate} of {self.percent} %: the last one has {full:.2f} % here"
            )
        return MaxWerIncrease(self.percent - full).choose(policy, utterances, path)


@dataclass(frozen=True)
class MaxWerIncrease(LimitHere):
    """The lowest cost at a WER of at most ``points`` above the last exit's here; no promise for other utterances."""

    points: float

    def choose(self, policy, utterances, path):
        """See :meth:`Target.choose`."""
        threshold = choose_threshold(policy, utterances, self.points)["threshold"]
        return (FixedExit() if threshold is None else policy.with_threshold(threshold)), None


class MaxCer(MaxWer):
    """As :class:`MaxWer`, of utterances that are counted in characters."""

    unit = CHAR


class MaxCerIncrease(MaxWerIncrease):
    """As :class:`MaxWerIncrease`, of utterances that are counted in characters."""

    unit = CHAR


@dataclass(frozen=True)
class Promise(Target):
    """The riskiest threshold of a path for which a WER increase of at most ``epsilon`` can be promised.

    The promise: on further utterances from the same source, WER is at most ``epsilon`` points above the last exit's; of
    utterances that are counted in characters, it is the CER.
    It is broken for at most a share ``delta`` of all calibration sets. See :mod:`speechbrain_ee.calibration.risk`.

    Arguments
    ---------
    epsilon : float
        Points of WER or CER, above 0.
    delta : float
        Allowed probability of a broken promise, in (0, 1).
    same_speakers : bool
        Whether the promise is about the speakers of this set only; the sampling units are then utterances.
    """

    epsilon: float
    delta: float = DEFAULT_DELTA
    same_speakers: bool = False

    def __post_init__(self):
        if not self.epsilon > 0:
            raise ValueError(f"promise is {self.epsilon}: give points of the error rate above 0")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta is {self.delta}: give a probability above 0 and below 1")

    def check(self, utterances):
        """See :meth:`Target.check`."""
        sampling_units(utterances, self.delta, same_speakers=self.same_speakers)

    def choose(self, policy, utterances, path):
        """See :meth:`Target.choose`."""
        halved = isinstance(policy, LearnedThreshold)
        units = sampling_units(utterances, self.delta, same_speakers=self.same_speakers, halved=halved)
        losses, by_speaker = PathLosses.of(policy, utterances, path), units.speakers is not None
        lengths = losses.counts.lengths
        extra, of_units = (sum_by_speaker(one, units.speakers) for one in (losses.extra_errors, lengths))
        unseen = unseen_loss(lengths, losses.counts.unit)
        p = p_values(LossSums.of(extra, of_units), epsilon=self.epsilon, by_speaker=by_speaker, unseen=unseen)
        num_safe = int(furthest_safe(p, self.delta))
        record = {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "test": TEST_NAME,
            "asymptotic": True,
            **units.record(),
            "fewest": fewest(self.delta, self.epsilon / 100 * of_units.mean(), by_speaker, unseen),
            "steps_of_path": [num_safe, len(path)],
        }
        return _granted(policy, path, losses, num_safe, record)


@dataclass(frozen=True)
class Average(Target):
    """The riskiest threshold of a path that costs at most ``epsilon`` points on average over calibration sets.

    Conformal risk control (Angelopoulos et al., arXiv 2208.02814) of D - epsilon n, clipped to 8 words (48 characters)
    in both directions and made monotone along the path, as the method requires. Weaker than :class:`Promise`: about
    half of all calibration sets may exceed ``epsilon``. As many speakers are required as by a promise with a delta of
    0.5.

    Arguments
    ---------
    epsilon : float
        Points of WER or CER, above 0.
    same_speakers : bool
        See :class:`Promise`.
    """

    epsilon: float
    same_speakers: bool = False

    def __post_init__(self):
        if not self.epsilon > 0:
            raise ValueError(f"average is {self.epsilon}: give points of the error rate above 0")

    def check(self, utterances):
        """See :meth:`Target.check`."""
        sampling_units(utterances, AVERAGE_DELTA, same_speakers=self.same_speakers)

    def choose(self, policy, utterances, path):
        """See :meth:`Target.choose`."""
        halved = isinstance(policy, LearnedThreshold)
        units = sampling_units(utterances, AVERAGE_DELTA, same_speakers=self.same_speakers, halved=halved)
        losses = PathLosses.of(policy, utterances, path)
        unit = losses.counts.unit
        bound = PSEUDO_LOSSES[unit]
        excess = losses.extra_errors - self.epsilon / 100 * losses.counts.lengths[:, None]
        monotone = np.maximum.accumulate(np.clip(excess, -bound, bound), axis=1)
        of_units = sum_by_speaker(monotone, units.speakers)
        largest = bound * sum_by_speaker(np.ones(len(utterances)), units.speakers).max()
        risk = (of_units.sum(axis=0) + largest) / (len(of_units) + 1)
        record = {"epsilon": self.epsilon, "on_average": True, f"bound_{unit.plural}": bound} | units.record()
        return _granted(policy, path, losses, int((risk <= 0).sum()), record)


def _granted(
    policy: ThresholdPolicy, path: Sequence[float], losses: PathLosses, num_safe: int, record: dict
) -> tuple[Policy, dict]:
    """Take the last safe threshold; full depth if none is safe or it would not save cost."""
    granted = num_safe > 0 and losses.saves_cost(num_safe - 1)
    found = policy.with_threshold(path[num_safe - 1]) if granted else FixedExit()
    return found, {"granted": granted} | record


TARGETS: dict[str, type[Target]] = {
    "mean_cost": MeanCost,
    "max_wer": MaxWer,
    "max_wer_increase": MaxWerIncrease,
    "max_cer": MaxCer,
    "max_cer_increase": MaxCerIncrease,
    "promise": Promise,
    "average": Average,
}


def target_from_dict(values: Mapping) -> Target:
    """Build a target from plain values.

    Arguments
    ---------
    values : mapping
        One name of ``TARGETS`` with its value, and the options of that target.

    Returns
    -------
    Target
        The target.

    Raises
    ------
    ValueError
        If the target or an option is unknown or out of range.

    Example
    -------
    >>> target_from_dict({"promise": 0.5, "delta": 0.05})
    Promise(epsilon=0.5, delta=0.05, same_speakers=False)
    """
    names = [name for name in TARGETS if name in values]
    if len(names) != 1:
        raise ValueError(f"target {dict(values)} is not one of {', '.join(TARGETS)}: give one of them")
    options = {name: value for name, value in values.items() if name != names[0]}
    allowed = [field.name for field in fields(TARGETS[names[0]])][1:]
    if unknown := sorted(set(options) - set(allowed)):
        raise ValueError(
            f"target {names[0]} has no option {', '.join(unknown)}; it has: {', '.join(allowed) or 'none'}"
        )
    return TARGETS[names[0]](values[names[0]], **options)
