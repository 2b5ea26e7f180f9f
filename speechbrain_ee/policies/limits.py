# SPDX-License-Identifier: Apache-2.0
"""Policies that put limits around others, for one utterance or a stream of them. Needs only the standard library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from speechbrain_ee.policies.base import Look, Policy
from speechbrain_ee.policies.thresholds import ThresholdPolicy, plain_threshold


class Capped(Policy):
    """Another policy within limits for each utterance: it stops earlier where going on would break one.

    An utterance whose first exit breaks a limit stops there all the same. Only heads that the other policy needs are
    computed, and that of the exit where a limit stops the utterance.

    Arguments
    ---------
    policy : Policy
        What decides within the limits.
    max_layer : int, optional
        No exit deeper than this layer.
    macs_per_s : float, optional
        Budget in MACs per second of the utterance's audio; an attention decoder's, known only afterwards, aside.
    deadline_ms : float, optional
        Milliseconds from the moment the utterance came in.
    seconds_to_exit : sequence of (float, float), optional
        With ``deadline_ms``: per exit an offset in seconds and seconds per second of audio, until its head's output is
        there, measured on the machine.
    seconds_to_text : (float, float), optional
        The same for turning that output into text at the end; None means no time.

    Raises
    ------
    ValueError
        If a limit is not above 0, or a deadline comes without measured times.

    Example
    -------
    >>> from speechbrain_ee.policies import FixedExit
    >>> look = Look(exit_index=0, exit_layers=(2, 4), scores=[{}], macs=[100, 200], facts={"duration": 2.0})
    >>> Capped(FixedExit(), macs_per_s=99).stop(look), Capped(FixedExit(), macs_per_s=100).stop(look)
    (True, False)
    """

    name = "capped"

    def __init__(
        self,
        policy: Policy,
        *,
        max_layer: int | None = None,
        macs_per_s: float | None = None,
        deadline_ms: float | None = None,
        seconds_to_exit: Sequence[Sequence[float]] | None = None,
        seconds_to_text: Sequence[float] | None = None,
    ):
        self.policy = policy
        limits = {"max_layer": max_layer, "macs_per_s": macs_per_s, "deadline_ms": deadline_ms}
        _check_above_0(limits)
        if deadline_ms is not None and seconds_to_exit is None:
            raise ValueError("a deadline needs seconds_to_exit, measured on this machine: give two numbers per exit")
        self.limits = limits
        self.seconds_to_exit = None if seconds_to_exit is None else [_line(pair) for pair in seconds_to_exit]
        self.seconds_to_text = None if seconds_to_text is None else _line(seconds_to_text)

    @property
    def score_names(self) -> tuple[str, ...]:
        """See :class:`Policy`."""
        return self.policy.score_names

    def stop(self, look: Look) -> bool:
        """See :meth:`Policy.stop`."""
        if not look.is_last and self._would_break_a_limit(look):
            self.policy.ended(look)
            return True
        return self.policy.stop(look)

    def cuts(self, look: Look) -> bool:
        """See :meth:`Policy.cuts`: where going on would break a limit."""
        if not look.is_last and self._would_break_a_limit(look):
            self.policy.ended(look)
            return True
        return self.policy.cuts(look)

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """See :meth:`Policy.needs_head`: where the other policy needs it."""
        max_layer = self.limits["max_layer"]
        if max_layer is not None and max_layer < exit_layers[0]:
            raise ValueError(f"max_layer={max_layer} is above no exit; the first one is layer {exit_layers[0]}")
        return self.policy.needs_head(exit_index, exit_layers)

    def value(self, look: Look) -> float | None:
        """See :meth:`Policy.value`."""
        return self.policy.value(look)

    def to_dict(self) -> dict:
        """See :meth:`Policy.to_dict`."""
        limits = self.limits | {"seconds_to_exit": self.seconds_to_exit, "seconds_to_text": self.seconds_to_text}
        given = {name: value for name, value in limits.items() if value is not None}
        return {"policy": self.name, "of": self.policy.to_dict()} | given

    def _would_break_a_limit(self, look: Look) -> bool:
        index = look.exit_index + 1
        max_layer, macs_per_s, deadline_ms = self.limits.values()
        if max_layer is not None and look.exit_layers[index] > max_layer:
            return True
        if macs_per_s is not None and _macs(look)[index] > macs_per_s * _duration(look):
            return True
        return deadline_ms is not None and self._expected_end(look) > deadline_ms / 1000

    def _expected_end(self, look: Look) -> float:
        """Seconds after the start at which the text of the next exit would be there."""
        if look.clock is None:
            raise ValueError("a deadline needs a clock; give one with every look")
        if len(self.seconds_to_exit) != len(look.exit_layers):
            raise ValueError(
                f"got seconds_to_exit for {len(self.seconds_to_exit)} exits, the model has {len(look.exit_layers)}: "
                "measure them again"
            )
        audio = look.facts.get("batch_duration", _duration(look))
        before, after = (_at(pair, audio) for pair in self.seconds_to_exit[look.exit_index : look.exit_index + 2])
        text = _at(self.seconds_to_text or (0.0, 0.0), look.facts.get("call_duration", audio))
        return look.clock() - look.started + max(0.0, after - before) + text


class RunningBudget(Policy):
    """Hold the average cost of a stream of utterances, as deep as it allows, by moving a threshold.

    Each utterance that ends moves the place on ``thresholds`` by how far its cost was from the budget; no step is taken
    that would bring the average above the budget, so only a budget below the first exit's cost is ever exceeded. The
    object remembers the stream: make a new one, or :meth:`reset` it, for a new stream.

    Arguments
    ---------
    policy : ThresholdPolicy
        Whose threshold is moved.
    thresholds : sequence of float
        From never stopping early to always stopping at the first exit, such as quantiles of the scores on dev.
    macs_per_s : float
        The average to hold, in MACs per second of audio; an attention decoder's, known only afterwards, aside.
    step : float
        How much of ``thresholds`` one utterance at twice the budget moves; more = faster, less steady.

    Raises
    ------
    ValueError
        If there are fewer than two thresholds, or the budget or the step is not above 0.
    """

    name = "running_budget"

    def __init__(self, policy: ThresholdPolicy, *, thresholds: Sequence[float], macs_per_s: float, step: float = 0.02):
        if not isinstance(policy, ThresholdPolicy):
            raise ValueError(f"a running budget moves a threshold, and {policy.name} has none")
        if len(thresholds) < 2:
            raise ValueError(f"got {len(thresholds)} thresholds: give at least two, from never to always stopping")
        _check_above_0({"macs_per_s": macs_per_s, "step": step})
        self.thresholds = [plain_threshold(one) for one in thresholds]
        self.policy = policy.with_threshold(self.thresholds[0])
        self.macs_per_s, self.step = macs_per_s, step
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._place, self._spent, self._seconds = 0.5, 0.0, 0.0

    @property
    def score_names(self) -> tuple[str, ...]:
        """See :class:`Policy`."""
        return self.policy.score_names

    def stop(self, look: Look) -> bool:
        """See :meth:`Policy.stop`; counts what is spent."""
        macs = _macs(look)
        if look.exit_index == 0:
            self._seconds += _duration(look)
            self._spent += macs[0]
        if not look.is_last:
            more = macs[look.exit_index + 1] - macs[look.exit_index]
            fits = self._spent + more <= self.macs_per_s * self._seconds
            self.policy.threshold = self._threshold()
            if fits and not self.policy.stop(look):
                self._spent += more
                return False
        self._move(look)
        return True

    def ended(self, look: Look) -> None:
        """See :meth:`Policy.ended`."""
        if look.exit_index == 0:
            self._seconds += _duration(look)
            self._spent += _macs(look)[0]
        self._move(look)

    def _move(self, look: Look) -> None:
        excess = _macs(look)[look.exit_index] / (self.macs_per_s * _duration(look)) - 1
        self._place = min(1.0, max(0.0, self._place + self.step * excess))

    def _threshold(self) -> float:
        return self.thresholds[round(self._place * (len(self.thresholds) - 1))]

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """See :meth:`Policy.needs_head`: every head, as an utterance may have to stop at any exit."""
        self.policy.needs_head(exit_index, exit_layers)
        return True

    def value(self, look: Look) -> float | None:
        """See :meth:`Policy.value`."""
        return self.policy.value(look)

    def to_dict(self) -> dict:
        """See :meth:`Policy.to_dict`; what the stream was like is not in it."""
        settings = {"thresholds": self.thresholds, "macs_per_s": self.macs_per_s, "step": self.step}
        return {"policy": self.name, "of": self.policy.with_threshold(self.thresholds[0]).to_dict()} | settings


def _check_above_0(limits: Mapping[str, float | None]) -> None:
    for name, value in limits.items():
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            raise ValueError(f"{name} is {value!r}: give a number above 0")


def _line(pair: Sequence[float]) -> list[float]:
    """Check an offset and a slope."""
    try:
        offset, slope = map(float, pair)
    except (TypeError, ValueError):
        raise ValueError(f"{pair!r} is no time: give an offset in seconds and seconds per second of audio") from None
    return [offset, slope]


def _at(line: Sequence[float], audio_s: float) -> float:
    offset, slope = line
    return max(0.0, offset + slope * audio_s)


def _macs(look: Look) -> Sequence[float]:
    if len(look.macs) != len(look.exit_layers):
        raise ValueError("a budget needs the MACs of every exit, and they are not known here")
    return look.macs


def _duration(look: Look) -> float:
    if "duration" not in look.facts:
        raise ValueError("a budget or a deadline needs the utterance's duration, and it is not known here")
    return look.facts["duration"]
