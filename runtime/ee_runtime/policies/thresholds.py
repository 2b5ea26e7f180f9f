# SPDX-License-Identifier: Apache-2.0
"""Policies that compare one value per exit with a threshold. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy

from ee_runtime.policies.base import Look, Policy
from ee_runtime.policies.learned import LearnedScore
from ee_runtime.policies.scores import SCORES, check_score_names, score_value


class ThresholdPolicy(Policy):
    """Stop at the first exit where :meth:`value` reaches the threshold; NaN never stops.

    Arguments
    ---------
    threshold : float or sequence
        One for all exits, or one per exit. None in a sequence never stops at that exit. The last exit always stops.
    """

    higher_is_surer = False

    def __init__(self, threshold: float | Sequence[float | None]):
        self.threshold = plain_threshold(threshold)

    def with_threshold(self, threshold: float | Sequence[float | None]) -> ThresholdPolicy:
        """Return a copy with another threshold."""
        other = copy(self)
        other.threshold = plain_threshold(threshold)
        return other

    def stop(self, look: Look) -> bool:
        """See :meth:`Policy.stop`."""
        threshold = self._threshold_at(look.exit_index, look.exit_layers)
        if look.is_last:
            return True
        if threshold is None:
            return False
        value = self.value(look)
        return value >= threshold if self.higher_is_surer else value <= threshold

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """See :meth:`Policy.needs_head`: every head, because a value may depend on earlier exits."""
        self._threshold_at(exit_index, exit_layers)
        return True

    def _threshold_at(self, exit_index: int, exit_layers: tuple[int, ...]) -> float | None:
        if not isinstance(self.threshold, list):
            return self.threshold
        if len(self.threshold) != len(exit_layers):
            raise ValueError(
                f"got {len(self.threshold)} thresholds for {len(exit_layers)} exits "
                f"{', '.join(map(str, exit_layers))}; give one number or one per exit"
            )
        return self.threshold[exit_index]


class ScoreThreshold(ThresholdPolicy):
    """Stop at the first exit whose score reaches the threshold.

    Arguments
    ---------
    score : str
        A name of ``ee_runtime.policies.scores.SCORES``, which also defines the direction.
    threshold : float or sequence
        See :class:`ThresholdPolicy`. The head of an exit with None is not computed, unless the score compares exits.
    guarded : bool
        Whether a score of exactly 1 is ignored. An n-best posterior of 1 means that the beam kept one hypothesis, not
        that the model is sure.

    Raises
    ------
    ValueError
        If the score is unknown or has no direction, or a threshold is not a number.

    Example
    -------
    >>> look = Look(exit_index=0, exit_layers=(2, 4), scores=[{"entropy": 0.02}])
    >>> ScoreThreshold("entropy", 0.03).stop(look), ScoreThreshold("entropy", 0.01).stop(look)
    (True, False)
    >>> ScoreThreshold("entropy", 0.03)
    ScoreThreshold('entropy', threshold=0.03)
    """

    name = "score_threshold"

    def __init__(self, score: str, threshold: float | Sequence[float | None], *, guarded: bool = False):
        check_score_names([score])
        if SCORES[score].higher_is_surer is None:
            directed = [name for name, info in SCORES.items() if info.higher_is_surer is not None]
            raise ValueError(f"exit score {score!r} does not measure how sure the model is; use {', '.join(directed)}")
        super().__init__(threshold)
        self.score = score
        self.guarded = guarded
        self.higher_is_surer = SCORES[score].higher_is_surer

    @property
    def label(self) -> str:
        """See :attr:`Policy.label`: the score's name."""
        return self.score + ("_guarded" if self.guarded else "")

    @property
    def score_names(self) -> tuple[str, ...]:
        """See :class:`Policy`."""
        return (self.score,)

    def value(self, look: Look) -> float:
        """See :meth:`Policy.value`: the score at this exit."""
        value = score_value(look.scores[-1], self.score)
        return math.nan if self.guarded and value == 1.0 else value

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """See :meth:`Policy.needs_head`."""
        is_last = exit_index == len(exit_layers) - 1
        threshold = self._threshold_at(exit_index, exit_layers)
        return threshold is not None or is_last or SCORES[self.score].needs_previous

    def to_dict(self) -> dict:
        """See :meth:`Policy.to_dict`."""
        guard = {"guarded": True} if self.guarded else {}
        return {"policy": self.name, "score": self.score, "threshold": self.threshold} | guard

    def __repr__(self) -> str:
        guard = ", guarded=True" if self.guarded else ""
        return f"ScoreThreshold({self.score!r}, threshold={self.threshold}{guard})"


class Patience(ThresholdPolicy):
    """Stop after a number of successive exits whose tokens agree with the previous exit's.

    Reference: Zhou et al., "BERT loses patience", arXiv 2006.04152.

    Arguments
    ---------
    threshold : float or sequence
        Number of successive agreements, 1 or more; see :class:`ThresholdPolicy`.
    level : float
        Smallest score ``agreement`` (1 - edit distance / longer length) that counts, in (0, 1].

    Example
    -------
    >>> scores = [{"agreement": 0.0}, {"agreement": 1.0}, {"agreement": 1.0}]
    >>> look = Look(exit_index=2, exit_layers=(2, 4, 6, 8), scores=scores)
    >>> Patience(2).stop(look), Patience(3).stop(look)
    (True, False)
    """

    name = "patience"
    higher_is_surer = True
    score_names = ("agreement",)

    def __init__(self, threshold: float | Sequence[float | None], *, level: float = 1.0):
        super().__init__(threshold)
        if not 0 < level <= 1:
            raise ValueError(f"level is {level!r}: give an agreement above 0 and at most 1")
        self.level = level

    def value(self, look: Look) -> float:
        """See :meth:`Policy.value`: the number of successive agreements up to this exit."""
        row = 0
        for one in reversed(look.scores):
            if not score_value(one, "agreement") >= self.level:
                break
            row += 1
        return float(row)

    def to_dict(self) -> dict:
        """See :meth:`Policy.to_dict`."""
        return {"policy": self.name, "threshold": self.threshold, "level": self.level}

    def __repr__(self) -> str:
        return f"Patience({self.threshold}, level={self.level})"


class LearnedThreshold(ThresholdPolicy):
    """Stop when deeper exits are predicted to save at most ``threshold`` word errors per cost.

    Arguments
    ---------
    learned : LearnedScore or mapping
        The fitted score, or its plain values.
    threshold : float or sequence
        Word errors per layer, or per layer and second of audio; see :class:`ThresholdPolicy`.

    Raises
    ------
    ValueError
        If the plain values are invalid.
    """

    name = "learned"

    def __init__(self, learned: LearnedScore | Mapping, threshold: float | Sequence[float | None]):
        super().__init__(threshold)
        self.learned = learned if isinstance(learned, LearnedScore) else LearnedScore.from_dict(learned)

    @property
    def score_names(self) -> tuple[str, ...]:
        """See :class:`Policy`."""
        return tuple(self.learned.score_names)

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """See :meth:`Policy.needs_head`: every head; checks that the score was fitted for this model's exits."""
        if tuple(exit_layers) != tuple(self.learned.exit_layers):
            raise ValueError(
                f"the learned score was fitted for exits {self.learned.exit_layers}, but the model has exits "
                f"{list(exit_layers)}; fit it again"
            )
        return super().needs_head(exit_index, exit_layers)

    def value(self, look: Look) -> float | None:
        """See :meth:`Policy.value`: predicted errors saved per cost; None at the last exit."""
        return None if look.is_last else self.learned(look.scores, look.exit_index, look.facts.get("duration"))

    def to_dict(self) -> dict:
        """See :meth:`Policy.to_dict`."""
        return {"policy": self.name, "learned": self.learned.to_dict(), "threshold": self.threshold}

    def __repr__(self) -> str:
        return f"LearnedThreshold({self.learned!r}, threshold={self.threshold})"


def paper_entropy(threshold: float, vocab_size: int) -> ScoreThreshold:
    """Return the entropy rule of Wright et al., arXiv 2309.09546, for a published threshold.

    Their code divides the entropy summed over frames and tokens by ``frames * tokens`` and includes padding. This
    package excludes padding and divides by ``frames * log(tokens)``; the threshold is rescaled.

    Example
    -------
    >>> round(paper_entropy(0.005, vocab_size=32).threshold, 6)  # 0.005 * 32 / log 32
    0.046166
    """
    return ScoreThreshold("entropy", threshold * vocab_size / math.log(vocab_size))


def paper_posterior(threshold: float, *, as_published: bool = False) -> ScoreThreshold:
    """Return the posterior rule of Wright et al., arXiv 2309.09546: the best hypothesis' share of the n-best list.

    If the beam kept a single hypothesis, the share is 1. As published, the utterance then stops; by default, the share
    is ignored.

    Example
    -------
    >>> look = Look(exit_index=0, exit_layers=(2, 4), scores=[{"posterior": 1.0}])
    >>> paper_posterior(0.9).stop(look), paper_posterior(0.9, as_published=True).stop(look)
    (False, True)
    """
    return ScoreThreshold("posterior", threshold, guarded=not as_published)


def plain_threshold(threshold: float | Sequence[float | None]) -> float | list[float | None]:
    """Check a threshold and convert arrays to lists."""
    # tolist() works without an import of NumPy.
    values = threshold.tolist() if hasattr(threshold, "tolist") else threshold
    if isinstance(values, Sequence) and not isinstance(values, str):
        return [None if value is None else _number(value) for value in values]
    return _number(values)


def _number(values: object) -> float:
    if not isinstance(values, (int, float)) or math.isnan(values):
        raise ValueError(f"threshold is {values!r}; give a number or one per exit, or FixedExit for full depth")
    return float(values)
