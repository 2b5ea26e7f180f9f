# SPDX-License-Identifier: Apache-2.0
"""Exit policies: scores in, stop or go on out.

A policy sees what was scored and spent so far, never the model, and this module needs only the
standard library: the same object runs live, in a replay, and on a device.
The last exit always stops, whatever the policy says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from speechbrain_ee.scores import SCORES, check_score_names, score_value


@dataclass
class Look:
    """What a policy sees of one utterance when an exit has been reached.

    Arguments
    ---------
    exit_index : int
        Position of the current exit in ``exit_layers``.
    exit_layers : tuple of int
        All exits of the model.
    scores : list of dict
        One dict of score values per exit whose head was computed so far, the current exit last.
    macs : list of float
        Cost up to each exit so far, computed head or not; empty if costs are unknown.
    features : dict
        Facts about the utterance that hold at every exit, such as ``duration`` in seconds.
    clock : callable, optional
        Seconds since some moment; passed in so that a recorded run can be replayed.
    """

    exit_index: int
    exit_layers: tuple[int, ...]
    scores: list[dict[str, float]]
    macs: list[float] = field(default_factory=list)
    features: dict[str, float] = field(default_factory=dict)
    clock: Callable[[], float] | None = None

    @property
    def is_last(self) -> bool:
        """Whether no deeper exit is left."""
        return self.exit_index == len(self.exit_layers) - 1


class FixedExit:
    """Every utterance stops at the same exit; no other head is computed.

    Arguments
    ---------
    layer : int, optional
        Exit layer, one of the model's exits; None is the last exit, the full encoder.

    Example
    -------
    >>> policy = FixedExit(4)
    >>> [policy.needs_head(i, (2, 4, 6)) for i in range(3)]
    [False, True, False]
    """

    name = "fixed_exit"
    score_names: tuple[str, ...] = ()

    def __init__(self, layer: int | None = None):
        self.layer = layer

    def stop(self, look: Look) -> bool:
        """Whether the utterance stops at the exit just reached."""
        return self.needs_head(look.exit_index, look.exit_layers) or look.is_last

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """Whether the exit's head must be computed."""
        if self.layer is None:
            return exit_index == len(exit_layers) - 1
        if self.layer not in exit_layers:
            raise ValueError(
                f"exit layer {self.layer} is not an exit of this model; "
                f"choose one of {', '.join(map(str, exit_layers))}"
            )
        return exit_layers[exit_index] == self.layer

    def to_dict(self) -> dict:
        """Plain values for JSON, read back by ``policy_from_dict``."""
        return {"policy": self.name, "layer": self.layer}


class ScoreThreshold:
    """Stop at the first exit whose score is at least as sure as the threshold.

    With ``entropy`` this is the first rule of Wright et al., arXiv 2309.09546, on a score that
    does not depend on the vocabulary. A score of NaN (or null in a file) never stops.

    Arguments
    ---------
    score : str
        A name of ``speechbrain_ee.scores.SCORES``, which also knows the direction.
    threshold : float or sequence
        One for all exits, or one per exit; None in a sequence never stops at that exit, whose
        head is then not computed. The last exit stops whatever its threshold.

    Raises
    ------
    ValueError
        If the score is unknown or a threshold is not a number.

    Example
    -------
    >>> look = Look(exit_index=0, exit_layers=(2, 4), scores=[{"entropy": 0.02}])
    >>> ScoreThreshold("entropy", 0.03).stop(look), ScoreThreshold("entropy", 0.01).stop(look)
    (True, False)
    """

    name = "score_threshold"

    def __init__(self, score: str, threshold: float | Sequence[float | None]):
        check_score_names([score])
        self.score = score
        self.threshold = _plain_threshold(threshold)
        self.higher_is_surer = SCORES[score].higher_is_surer

    @property
    def score_names(self) -> tuple[str, ...]:
        """Scores that must be in every look."""
        return (self.score,)

    def stop(self, look: Look) -> bool:
        """Whether the utterance stops at the exit just reached."""
        threshold = self._threshold_at(look.exit_index, look.exit_layers)
        if look.is_last:
            return True
        if threshold is None:
            return False
        score = score_value(look.scores[-1], self.score)
        return score >= threshold if self.higher_is_surer else score <= threshold

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """Whether the exit's head must be computed."""
        is_last = exit_index == len(exit_layers) - 1
        return self._threshold_at(exit_index, exit_layers) is not None or is_last

    def to_dict(self) -> dict:
        """Plain values for JSON, read back by ``policy_from_dict``."""
        return {"policy": self.name, "score": self.score, "threshold": self.threshold}

    def _threshold_at(self, exit_index: int, exit_layers: tuple[int, ...]) -> float | None:
        if not isinstance(self.threshold, list):
            return self.threshold
        if len(self.threshold) != len(exit_layers):
            raise ValueError(
                f"got {len(self.threshold)} thresholds for the {len(exit_layers)} exits "
                f"{', '.join(map(str, exit_layers))}; give one number or one per exit"
            )
        return self.threshold[exit_index]


Policy = FixedExit | ScoreThreshold
POLICIES: dict[str, type] = {policy.name: policy for policy in (FixedExit, ScoreThreshold)}


def policy_from_dict(values: Mapping) -> Policy:
    """Build a policy from the plain values of its ``to_dict``.

    Arguments
    ---------
    values : mapping
        ``{"policy": name, ...}``.

    Returns
    -------
    Policy
        A policy equal to the one that was written.

    Raises
    ------
    ValueError
        If the policy's name or one of its values is unknown or missing.

    Example
    -------
    >>> policy_from_dict({"policy": "fixed_exit", "layer": 4}).to_dict()
    {'policy': 'fixed_exit', 'layer': 4}
    """
    options = dict(values)
    name = options.pop("policy", None)
    if name not in POLICIES:
        raise ValueError(f"unknown exit policy {name!r}; known: {', '.join(POLICIES)}")
    try:
        return POLICIES[name](**options)
    except TypeError as error:
        raise ValueError(f"exit policy {name!r} does not take {options}: {error}") from error


def _plain_threshold(threshold: float | Sequence[float | None]) -> float | list[float | None]:
    # An array is asked for its own list: NumPy need not be there.
    values = threshold.tolist() if hasattr(threshold, "tolist") else threshold
    if isinstance(values, Sequence) and not isinstance(values, str):
        return [None if value is None else _plain_threshold(value) for value in values]
    if not isinstance(values, (int, float)) or math.isnan(values):
        raise ValueError(f"threshold is {values!r}; give a number or one per exit, or FixedExit for full depth")
    return float(values)
