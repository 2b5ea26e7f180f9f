# SPDX-License-Identifier: Apache-2.0
"""Which part of an encoder is trained, and from which step on."""

from collections.abc import Sequence

from speechbrain_ee.lobes.encoder import ExitEncoder

NOTHING, FRONT_END, ENCODER = "nothing", "front_end", "encoder"


def frozen_layers(freeze: str | int, num_layers: int) -> int | None:
    """Turn a setting into what :meth:`ExitEncoder.freeze` takes.

    Arguments
    ---------
    freeze : str | int
        ``nothing``, ``front_end``, ``encoder`` (all of it), or a number: the front-end and so many layers.
    num_layers : int
        Layers of the encoder.

    Returns
    -------
    int | None
        Number of frozen layers.

    Raises
    ------
    ValueError
        For anything else.

    Example
    -------
    >>> [frozen_layers(one, 6) for one in ("nothing", "front_end", 3, "encoder")]
    [None, 0, 3, 6]
    """
    named = {NOTHING: None, FRONT_END: 0, ENCODER: num_layers}
    if isinstance(freeze, str) and freeze in named:
        return named[freeze]
    if isinstance(freeze, int) and not isinstance(freeze, bool) and 0 < freeze <= num_layers:
        return freeze
    raise ValueError(f"freeze {freeze!r}: give {', '.join(named)}, or a number of layers from 1 to {num_layers}")


class Freezing:
    """Freeze a part of the encoder, and free it step by step.

    A function of the optimizer step alone, so that a resumed training goes on with what it was doing.

    Arguments
    ---------
    encoder : ExitEncoder
        The encoder.
    freeze : str | int
        What is not trained from the start; see :func:`frozen_layers`.
    unfreeze : Sequence[Sequence]
        Pairs (optimizer step, what is not trained from there on), steps rising: gradual unfreezing.

    Raises
    ------
    ValueError
        If a setting is unknown or the steps do not rise.

    Example
    -------
    >>> from speechbrain_ee.lobes import TransformerExitEncoder
    >>> encoder = TransformerExitEncoder(n_mels=8, num_layers=2, exit_layers=[1, 2], d_model=8, nhead=2, d_ffn=8)
    >>> freezing = Freezing(encoder=encoder, freeze="encoder", unfreeze=[[100, 1], [200, "nothing"]])
    >>> [freezing(step) for step in (0, 99, 100, 250)]
    [2, 2, 1, None]
    """

    def __init__(self, *, encoder: ExitEncoder, freeze: str | int = NOTHING, unfreeze: Sequence[Sequence] = ()):
        self.encoder = encoder
        stages = [(0, freeze), *unfreeze]
        if not all(_is_pair(stage) for stage in stages):
            raise ValueError(
                f"unfreeze {list(unfreeze)}: give pairs [optimizer step, what stays frozen], e.g. [[500, 3]]"
            )
        steps = [step for step, _ in stages]
        if any(a >= b for a, b in zip(steps, steps[1:], strict=False)):
            raise ValueError(f"unfreeze has the steps {steps[1:]}: they must rise from 1 on")
        self.stages = [(step, frozen_layers(what, encoder.num_layers)) for step, what in stages]
        self(0)

    @property
    def ever_freezes(self) -> bool:
        """Whether any step leaves a part out, for whose gradients DDP would wait."""
        return any(layers is not None for _, layers in self.stages)

    @property
    def always_all(self) -> bool:
        """Whether the encoder is never trained at all."""
        return all(layers == self.encoder.num_layers for _, layers in self.stages)

    def __call__(self, step: int) -> int | None:
        """Freeze what is to be frozen at an optimizer step; returns how many layers, None for nothing."""
        layers = [layers for first, layers in self.stages if first <= step][-1]
        if layers != self.encoder.frozen_layers:
            self.encoder.freeze(layers)
        return layers


def _is_pair(stage: object) -> bool:
    return isinstance(stage, Sequence) and len(stage) == 2 and type(stage[0]) is int
