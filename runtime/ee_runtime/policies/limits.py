# SPDX-License-Identifier: Apache-2.0
"""Policies that limit the cost of another policy, per utterance or on average. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ee_runtime.policies.base import Look, Policy
from ee_runtime.policies.thresholds import ThresholdPolicy, plain_threshold


class Capped(Policy):
    """Stop an utterance before the next exit would exceed a limit; otherwise follow another policy.

    If the first exit already exceeds a limit, the utterance stops there. Only the heads that the other policy needs are
    computed, and the head of the exit where a limit stops the utterance.

    Arguments
    ---------
    policy : Policy
        The policy that decides within the limits.
    max_layer : int, optional
        Deepest exit layer.
    macs_per_s : float, optional
        Budget in MACs per second of the utterance's audio. MACs of an attention decoder are known only afterwards and
        are not counted.
    deadline_ms : float, optional
        Time limit in milliseconds after the utterance arrived.
    seconds_to_exit : sequence of (float, float), optional
        Required by ``deadline_ms``: measured time until the output of each exit's head is available, as an offset in
        seconds and seconds per second of audio.
    seconds_to_text : (float, float), optional
        The same for decoding that output into text; None counts no time.

    Raises
    ------
    ValueError
        If a limit is not above 0, or ``deadline_ms`` is given without ``seconds_to_exit``.

    Example
    -------
    >>> from ee_runtime.policies import FixedExit
    >>> look = Look(exit_index=0, exit_layers=(2, 4), scores=[{}], macs=[100, 200], facts={"duration": 2.0})
    >>> Capped(FixedExit(), macs_per_s=99).stop(look), Capped(FixedExit(), macs_per_s=100).stop(look)
    (True, False)
    >>> Capped(FixedExit(), macs_per_s=99)
    Capped(FixedExit(), macs_per_s=99)
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
            raise ValueError("deadline_ms needs seconds_to_exit: measure it on this machine, two numbers per exit")
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
        """See :meth:`Policy.cuts`: if the next exit would exceed a limit."""
        if not look.is_last and self._would_break_a_limit(look):
            self.policy.ended(look)
            return True
        return self.policy.cuts(look)

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """See :meth:`Policy.needs_head`: if the inner policy needs it."""
        max_layer = self.limits["max_layer"]
        if max_layer is not None and max_layer < exit_layers[0]:
            raise ValueError(f"max_layer is {max_layer}: give at least the first exit layer, {exit_layers[0]}")
        return self.policy.needs_head(exit_index, exit_layers)

    def value(self, look: Look) -> float | None:
        """See :meth:`Policy.value`."""
        return self.policy.value(look)

    def to_dict(self) -> dict:
        """See :meth:`Policy.to_dict`."""
        limits = self.limits | {"seconds_to_exit": self.seconds_to_exit, "seconds_to_text": self.seconds_to_text}
        given = {name: value for name, value in limits.items() if value is not None}
        return {"policy": self.name, "of": self.policy.to_dict()} | given

    def __repr__(self) -> str:
        limits = [f"{name}={value}" for name, value in self.limits.items() if value is not None]
        return f"Capped({', '.join([repr(self.policy), *limits])})"

    def _would_break_a_limit(self, look: Look) -> bool:
        index = look.exit_index + 1
        max_layer, macs_per_s, deadline_ms = self.limits.values()
        if max_layer is not None and look.exit_layers[index] > max_layer:
            return True
        if macs_per_s is not None and _macs(look)[index] > macs_per_s * _duration(look):
            return True
        return deadline_ms is not None and self._expected_end(look) > deadline_ms / 1000

    def _expected_end(self, look: Look) -> float:
        """Estimate when the text of the next exit would be available, in seconds after the start."""
        if look.clock is None:
            raise ValueError("a deadline needs a clock: give one with every Look")
        if len(self.seconds_to_exit) != len(look.exit_layers):
            raise ValueError(
                f"got seconds_to_exit for {len(self.seconds_to_exit)} exits, but the model has "
                f"{len(look.exit_layers)}: measure it again"
            )
        audio = look.facts.get("batch_duration", _duration(look))
        before, after = (_at(pair, audio) for pair in self.seconds_to_exit[look.exit_index : look.exit_index + 2])
        text = _at(self.seconds_to_text or (0.0, 0.0), look.facts.get("call_duration", audio))
        return look.clock() - look.started + max(0.0, after - before) + text


class RunningBudget(Policy):
    """Keep the average cost of a stream of utterances at a budget by moving a threshold.

    After each utterance, the position in ``thresholds`` moves in proportion to the difference between its cost and the
    budget. An utterance stops where the next exit would bring the average above the budget, so only a budget below the
    first exit's cost is exceeded. The object has state: create a new one, or call :meth:`reset`, for a new stream.

    Arguments
    ---------
    policy : ThresholdPolicy
        The policy whose threshold is moved.
    thresholds : sequence of float
        Thresholds in order, from never stopping early to always stopping at the first exit; for example quantiles of
        the scores on dev.
    macs_per_s : float
        Average budget in MACs per second of audio. MACs of an attention decoder are known only afterwards and are not
        counted.
    step : float
        Share of ``thresholds`` by which one utterance at twice the budget moves the position; higher = faster, less
        steady.

    Raises
    ------
    ValueError
        If there are fewer than two thresholds, or the budget or the step is not above 0.
    """

    name = "running_budget"

    def __init__(self, policy: ThresholdPolicy, *, thresholds: Sequence[float], macs_per_s: float, step: float = 0.02):
        if not isinstance(policy, ThresholdPolicy):
            raise ValueError(f"a running budget moves a threshold, but {policy.name} has none: give a threshold policy")
        if len(thresholds) < 2:
            raise ValueError(f"got {len(thresholds)} thresholds: give at least 2, from never to always stopping early")
        _check_above_0({"macs_per_s": macs_per_s, "step": step})
        self.thresholds = [plain_threshold(one) for one in thresholds]
        self.policy = policy.with_threshold(self.thresholds[0])
        self.macs_per_s, self.step = macs_per_s, step
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._position, self._spent, self._seconds = 0.5, 0.0, 0.0

    @property
    def score_names(self) -> tuple[str, ...]:
        """See :class:`Policy`."""
        return self.policy.score_names

    def stop(self, look: Look) -> bool:
        """See :meth:`Policy.stop`; adds the cost to the sum of the stream."""
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
        self._position = min(1.0, max(0.0, self._position + self.step * excess))

    def _threshold(self) -> float:
        return self.thresholds[round(self._position * (len(self.thresholds) - 1))]

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """See :meth:`Policy.needs_head`: every head, because an utterance may stop at any exit."""
        self.policy.needs_head(exit_index, exit_layers)
        return True

    def value(self, look: Look) -> float | None:
        """See :meth:`Policy.value`."""
        return self.policy.value(look)

    def to_dict(self) -> dict:
        """See :meth:`Policy.to_dict`; the state of the stream is not saved."""
        settings = {"thresholds": self.thresholds, "macs_per_s": self.macs_per_s, "step": self.step}
        return {"policy": self.name, "of": self.policy.with_threshold(self.thresholds[0]).to_dict()} | settings

    def __repr__(self) -> str:
        return f"RunningBudget({self.policy!r}, macs_per_s={self.macs_per_s}, step={self.step})"


def _check_above_0(limits: Mapping[str, float | None]) -> None:
    for name, value in limits.items():
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            raise ValueError(f"{name} is {value!r}: give a number above 0")


def _line(pair: Sequence[float]) -> list[float]:
    """Check an offset and a slope."""
    try:
        offset, slope = map(float, pair)
    except (TypeError, ValueError):
        raise ValueError(f"invalid time {pair!r}: give an offset in seconds and seconds per second of audio") from None
    return [offset, slope]


def _at(line: Sequence[float], audio_s: float) -> float:
    offset, slope = line
    return max(0.0, offset + slope * audio_s)


def _macs(look: Look) -> Sequence[float]:
    if len(look.macs) != len(look.exit_layers):
        raise ValueError("a budget needs the MACs of every exit, which are unknown")
    return look.macs


def _duration(look: Look) -> float:
    if "duration" not in look.facts:
        raise ValueError("a budget or a deadline needs the utterance's duration, which is unknown")
    return look.facts["duration"]
