# SPDX-License-Identifier: Apache-2.0
"""A policy that limits the cost of each utterance under another policy. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real

from ee_runtime.policies.base import Look, Policy
from ee_runtime.policies.deadline import ExitTimes, Slowdown, duration_of


class Capped(Policy):
    """Stop an utterance before the next exit would exceed a limit; otherwise follow another policy.

    If the first exit already exceeds a limit, the utterance stops there. Only the heads that the other policy needs are
    computed, and the head of the exit where a limit stops the utterance.

    Each limit is a number or a function without arguments that returns a number, or None for no limit. The function is
    called at every exit but the last, for each utterance, so a limit can change while an utterance is being processed.
    A number of 0 or less that a function returns stops the utterance.

    Arguments
    ---------
    policy : Policy
        The policy that decides within the limits.
    max_layer : int or callable, optional
        Deepest exit layer.
    macs_per_s : float or callable, optional
        Budget in MACs per second of the utterance's audio. MACs of an attention decoder are known only afterwards and
        are not counted.
    deadline_ms : float or callable, optional
        Time limit in milliseconds after the utterance arrived.
    seconds_to_exit : sequence of (float, float), optional
        Required by ``deadline_ms``: measured time until the output of each exit's head is available, as an offset in
        seconds and seconds per second of audio.
    seconds_to_text : (float, float), optional
        The same for decoding that output into text; None counts no time.
    slowdown : Slowdown, optional
        Load of the machine, learned from all utterances with a deadline; None means that of this object's utterances.

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
    >>> battery = {"layers": 4}
    >>> policy = Capped(FixedExit(), max_layer=lambda: battery["layers"])
    >>> policy.stop(look), battery.update(layers=2), policy.stop(look)
    (False, None, True)
    """

    name = "capped"

    def __init__(
        self,
        policy: Policy,
        *,
        max_layer: int | Callable[[], int | None] | None = None,
        macs_per_s: float | Callable[[], float | None] | None = None,
        deadline_ms: float | Callable[[], float | None] | None = None,
        seconds_to_exit: Sequence[Sequence[float]] | None = None,
        seconds_to_text: Sequence[float] | None = None,
        slowdown: Slowdown | None = None,
    ):
        self.policy = policy
        self.limits = {"max_layer": max_layer, "macs_per_s": macs_per_s, "deadline_ms": deadline_ms}
        for name, limit in self.limits.items():
            if not callable(limit):
                _check_limit(name, limit)
        if deadline_ms is not None and seconds_to_exit is None:
            raise ValueError("deadline_ms needs seconds_to_exit: measure it on this machine, two numbers per exit")
        self._times = None
        if seconds_to_exit is not None:
            self._times = ExitTimes(seconds_to_exit, seconds_to_text, slowdown)

    @property
    def score_names(self) -> tuple[str, ...]:
        """See :class:`Policy`."""
        return self.policy.score_names

    def stop(self, look: Look) -> bool:
        """See :meth:`Policy.stop`."""
        if self._would_break_a_limit(look):
            self.policy.ended(look)
            return True
        return self.policy.stop(look)

    def cuts(self, look: Look) -> bool:
        """See :meth:`Policy.cuts`: if the next exit would exceed a limit."""
        if self._would_break_a_limit(look):
            self.policy.ended(look)
            return True
        return self.policy.cuts(look)

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """See :meth:`Policy.needs_head`: if the inner policy needs it."""
        max_layer = self.limits["max_layer"]
        if max_layer is not None and not callable(max_layer) and max_layer < exit_layers[0]:
            raise ValueError(f"max_layer is {max_layer}: give at least the first exit layer, {exit_layers[0]}")
        return self.policy.needs_head(exit_index, exit_layers)

    def value(self, look: Look) -> float | None:
        """See :meth:`Policy.value`."""
        return self.policy.value(look)

    def to_dict(self) -> dict:
        """See :meth:`Policy.to_dict`; raises ``ValueError`` if a limit is a function."""
        values = dict(self.limits)
        for name, limit in values.items():
            if callable(limit):
                raise ValueError(f"{name} is a function, which cannot be saved: give a number")
        if self._times is not None:
            values |= {"seconds_to_exit": self._times.seconds_to_exit, "seconds_to_text": self._times.seconds_to_text}
        given = {name: value for name, value in values.items() if value is not None}
        return {"policy": self.name, "of": self.policy.to_dict()} | given

    def __repr__(self) -> str:
        limits = [f"{name}={value}" for name, value in self.limits.items() if value is not None]
        return f"Capped({', '.join([repr(self.policy), *limits])})"

    def _would_break_a_limit(self, look: Look) -> bool:
        has_deadline = self.limits["deadline_ms"] is not None
        now = self._times.observe(look) if has_deadline else 0.0
        if look.is_last:
            return False
        index = look.exit_index + 1
        max_layer, macs_per_s, deadline_ms = map(self._limit, self.limits)
        if max_layer is not None and look.exit_layers[index] > max_layer:
            return True
        if macs_per_s is not None and macs_of(look)[index] > macs_per_s * duration_of(look):
            return True
        return deadline_ms is not None and self._times.expected_end(look, now) > deadline_ms / 1000

    def _limit(self, name: str) -> float | None:
        """Return the present value of a limit."""
        limit = self.limits[name]
        if not callable(limit):
            return limit
        limit = limit()
        if limit is not None and not (isinstance(limit, Real) and limit == limit):
            raise ValueError(f"the function {name} returned {limit!r}: return a number, or None for no limit")
        return limit


def check_above_0(limits: Mapping[str, float]) -> None:
    """Raise ``ValueError`` with the name of a limit that is not a number above 0."""
    for name, value in limits.items():
        if not (isinstance(value, Real) and value > 0):
            raise ValueError(f"{name} is {value!r}: give a number above 0")


def macs_of(look: Look) -> Sequence[float]:
    """Return the MACs up to each exit."""
    if len(look.macs) != len(look.exit_layers):
        raise ValueError("a budget needs the MACs of every exit, which are unknown")
    return look.macs


def _check_limit(name: str, value: float | None) -> None:
    if value is not None:
        check_above_0({name: value})
