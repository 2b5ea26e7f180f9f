# SPDX-License-Identifier: Apache-2.0
"""Policies that limit the cost of a stream of utterances. Standard library only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ee_runtime.policies.base import Look, Policy
from ee_runtime.policies.deadline import duration_of
from ee_runtime.policies.limits import check_above_0, macs_of
from ee_runtime.policies.thresholds import ThresholdPolicy, plain_threshold


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
        check_above_0({"macs_per_s": macs_per_s, "step": step})
        self.thresholds = plain_threshold(thresholds)
        if None in self.thresholds:
            raise ValueError("a running budget needs a number for each of its thresholds")
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
        macs = macs_of(look)
        if look.exit_index == 0:
            self._seconds += duration_of(look)
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
            self._seconds += duration_of(look)
            self._spent += macs_of(look)[0]
        self._move(look)

    def _move(self, look: Look) -> None:
        excess = macs_of(look)[look.exit_index] / (self.macs_per_s * duration_of(look)) - 1
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


class TokenBucket(Policy):
    """Spend MACs from a bucket that fills with time, such as a battery that the sun charges.

    The bucket starts full and gains ``macs_per_s`` each second up to ``capacity``. Each segment takes its MACs from the
    bucket; an utterance stops where the bucket cannot pay for the next segment. The first segment is always run, and
    the bucket is then in debt if it cannot pay. The object has state: create a new one, or call :meth:`reset`, for a
    new stream. :meth:`add` and the attribute ``macs_per_s`` may be used at any time, also from another thread.

    Arguments
    ---------
    policy : Policy
        The policy that decides as long as the bucket can pay.
    macs_per_s : float
        MACs gained per second of the clock (not of audio). MACs of an attention decoder are not paid for.
    capacity : float
        Largest content in MACs.

    Raises
    ------
    ValueError
        If a number is not above 0.

    Example
    -------
    >>> from ee_runtime.policies import FixedExit
    >>> policy = TokenBucket(FixedExit(), macs_per_s=10, capacity=150)
    >>> time = [0.0]
    >>> look = Look(0, (2, 4), [{}], macs=[100, 200], clock=lambda: time[0])
    >>> policy.stop(look), policy.credit
    (True, 50.0)
    >>> time[0] = 20.0
    >>> policy.stop(look), policy.credit  # 50 + 200, at most 150, pay for the first segment, but not for the second
    (True, 50.0)
    """

    name = "token_bucket"

    def __init__(self, policy: Policy, *, macs_per_s: float, capacity: float):
        check_above_0({"macs_per_s": macs_per_s, "capacity": capacity})
        self.policy, self.macs_per_s, self.capacity = policy, macs_per_s, float(capacity)
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Start a new stream with a full bucket."""
        with self._lock:
            self.credit, self._filled = self.capacity, None

    def add(self, macs: float) -> None:
        """Add MACs to the bucket, or take them if below 0."""
        with self._lock:
            self.credit = min(self.capacity, self.credit + macs)

    @property
    def score_names(self) -> tuple[str, ...]:
        """See :class:`Policy`."""
        return self.policy.score_names

    def stop(self, look: Look) -> bool:
        """See :meth:`Policy.stop`; takes the MACs of the next segment from the bucket if the utterance continues."""
        return self._stops(look, self.policy.stop)

    def cuts(self, look: Look) -> bool:
        """See :meth:`Policy.cuts`: if the bucket cannot pay for the next segment."""
        return self._stops(look, self.policy.cuts)

    def ended(self, look: Look) -> None:
        """See :meth:`Policy.ended`."""
        with self._lock:
            self._fill(look)
        self.policy.ended(look)

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """See :meth:`Policy.needs_head`: if the inner policy needs it."""
        return self.policy.needs_head(exit_index, exit_layers)

    def value(self, look: Look) -> float | None:
        """See :meth:`Policy.value`."""
        return self.policy.value(look)

    def to_dict(self) -> dict:
        """See :meth:`Policy.to_dict`; the state of the stream is not saved."""
        values = {"macs_per_s": self.macs_per_s, "capacity": self.capacity}
        return {"policy": self.name, "of": self.policy.to_dict()} | values

    def __repr__(self) -> str:
        return f"TokenBucket({self.policy!r}, macs_per_s={self.macs_per_s}, capacity={self.capacity})"

    def _stops(self, look: Look, inner: Callable[[Look], bool]) -> bool:
        with self._lock:
            self._fill(look)
            if look.is_last:
                return inner(look)
            macs = macs_of(look)
            more = macs[look.exit_index + 1] - macs[look.exit_index]
            if more > self.credit:
                self.policy.ended(look)
                return True
            stops = inner(look)
            if not stops:
                self.add(-more)
            return stops

    def _fill(self, look: Look) -> None:
        """Add what was gained since the last look, and take the first segment of a new utterance."""
        if look.clock is None:
            raise ValueError("a token bucket needs a clock: give one with every Look")
        now = look.clock()
        gained = 0.0 if self._filled is None else self.macs_per_s * max(0.0, now - self._filled)
        self._filled = now
        self.add(gained)
        if look.exit_index == 0:
            self.add(-macs_of(look)[0])
