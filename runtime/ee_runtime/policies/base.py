# SPDX-License-Identifier: Apache-2.0
"""The inputs of a policy, the base class of all policies, and the static exit. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Look:
    """Inputs of a policy for one utterance at one exit.

    Arguments
    ---------
    exit_index : int
        Position of the current exit in ``exit_layers``.
    exit_layers : tuple of int
        Exit layers of the model.
    scores : list of dict
        Score values by name, one dict for each exit whose head was computed so far; the current exit is last.
    macs : list of float
        MACs up to each exit of the model, the heads of all earlier exits included; empty if they are unknown.
    facts : dict
        Facts about the utterance that are the same at every exit, such as ``duration`` in seconds.
    clock : callable, optional
        Returns the time in seconds; passed in so that a recorded run can be replayed.
    started : float
        Time of the clock when the utterance arrived.
    """

    exit_index: int
    exit_layers: tuple[int, ...]
    scores: list[dict[str, float]]
    macs: Sequence[float] = ()
    facts: dict[str, float] = field(default_factory=dict)
    clock: Callable[[], float] | None = None
    started: float = 0.0

    @property
    def is_last(self) -> bool:
        """Whether the current exit is the last one."""
        return self.exit_index == len(self.exit_layers) - 1


class Policy:
    """Base class of policies; runs the full encoder.

    ``score_names`` are the scores that every :class:`Look` must have. ``to_dict`` returns plain values for JSON, which
    :func:`~ee_runtime.policies.policy_from_dict` reads.
    """

    name = "policy"
    score_names: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name in tables and plots."""
        return self.name

    def stop(self, look: Look) -> bool:
        """Decide whether the utterance stops at the current exit; it stops at the last one in any case."""
        return look.is_last

    def cuts(self, look: Look) -> bool:
        """Decide whether a limit stops the utterance at an exit whose head is not needed.

        Called instead of :meth:`stop`, before the head is computed; ``scores`` lacks this exit. If it returns True, the
        head is computed.
        """
        del look
        return False

    def ended(self, look: Look) -> None:
        """Note that an outer policy has stopped the utterance here, without a call of :meth:`stop`."""

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """Whether the exit's head must be computed."""
        return exit_index == len(exit_layers) - 1

    def value(self, look: Look) -> float | None:
        """Return the value that is compared with the threshold; None for a policy without one."""
        del look
        return None

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {"policy": self.name}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class FixedExit(Policy):
    """The static exit: every utterance stops at the same exit, and no other head is computed.

    Arguments
    ---------
    layer : int, optional
        Exit layer, one of the model's exits; None is the last exit, which is the full encoder.

    Example
    -------
    >>> policy = FixedExit(4)
    >>> policy
    FixedExit(4)
    >>> [policy.needs_head(i, (2, 4, 6)) for i in range(3)]
    [False, True, False]
    """

    name = "fixed_exit"

    def __init__(self, layer: int | None = None):
        self.layer = layer

    def stop(self, look: Look) -> bool:
        """See :meth:`Policy.stop`."""
        return self.needs_head(look.exit_index, look.exit_layers) or look.is_last

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """See :meth:`Policy.needs_head`."""
        if self.layer is None:
            return exit_index == len(exit_layers) - 1
        if self.layer not in exit_layers:
            raise ValueError(
                f"exit layer {self.layer} is not an exit of this model; "
                f"choose one of {', '.join(map(str, exit_layers))}"
            )
        return exit_layers[exit_index] == self.layer

    def to_dict(self) -> dict:
        """See :meth:`Policy.to_dict`."""
        return {"policy": self.name, "layer": self.layer}

    def __repr__(self) -> str:
        return f"FixedExit({'' if self.layer is None else self.layer})"
