# SPDX-License-Identifier: Apache-2.0
"""What a policy sees, what every policy has, and the simplest one. Needs only the standard library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


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
        Cost up to each exit of the model, the heads of all exits on the way included; empty if costs are unknown.
    facts : dict
        Facts about the utterance that hold at every exit, such as ``duration`` in seconds.
    clock : callable, optional
        Seconds since some moment; passed in so that a recorded run can be replayed.
    started : float
        What the clock said when the utterance came in.
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
        """Whether no deeper exit is left."""
        return self.exit_index == len(self.exit_layers) - 1


class Policy:
    """What every policy has; by itself it runs the full encoder.

    ``score_names`` are the scores that must be in every look; ``to_dict`` gives plain values for JSON, read back by
    :func:`policy_from_dict`.
    """

    name = "policy"
    score_names: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name in tables and plots."""
        return self.name

    def stop(self, look: Look) -> bool:
        """Whether the utterance stops at the exit just reached; at the last one it does in any case."""
        return look.is_last

    def cuts(self, look: Look) -> bool:
        """Whether an utterance must stop at an exit whose head is not needed; the head is then computed after all.

        Asked in the place of :meth:`stop`, before the head is computed: ``scores`` has none of this exit.
        """
        del look
        return False

    def ended(self, look: Look) -> None:
        """Take note that an utterance ends here without having asked: a policy around this one stopped it."""

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        """Whether the exit's head must be computed."""
        return exit_index == len(exit_layers) - 1

    def value(self, look: Look) -> float | None:
        """What the decision was made on, for reports; None where it is made on no score."""
        del look
        return None

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {"policy": self.name}


class FixedExit(Policy):
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
