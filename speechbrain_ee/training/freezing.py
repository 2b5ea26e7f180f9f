# SPDX-License-Identifier: Apache-2.0
"""Which part of an encoder is trained, and from which step on."""

from collections.abc import Sequence

from speechbrain.utils.logger import get_logger

from speechbrain_ee.lobes.encoder import ExitEncoder

logger = get_logger(__name__)

NOTHING, FEATURE_EXTRACTOR, FRONT_END, ENCODER = "nothing", "feature_extractor", "front_end", "encoder"


def frozen_layers(freeze: str | int, encoder: ExitEncoder) -> int | None:
    """Turn a setting into what :meth:`ExitEncoder.freeze` takes.

    Arguments
    ---------
    freeze : str | int
        ``nothing``; ``feature_extractor``, the convolutions of encoders that take waveforms; ``front_end``, all before
        layer 1; a number: the front-end and so many layers; ``encoder``, all of it.
    encoder : ExitEncoder
        The encoder.

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
    >>> from speechbrain_ee.lobes import TransformerExitEncoder
    >>> encoder = TransformerExitEncoder(n_mels=8, num_layers=6, exit_layers=[6], d_model=8, nhead=2, d_ffn=8)
    >>> [frozen_layers(one, encoder) for one in ("nothing", "front_end", 3, "encoder")]
    [None, 0, 3, 6]
    """
    named = {NOTHING: None, FRONT_END: 0, ENCODER: encoder.num_layers}
    if encoder.has_feature_extractor:
        named[FEATURE_EXTRACTOR] = -1
    if isinstance(freeze, str) and freeze in named:
        return named[freeze]
    if type(freeze) is int and 0 < freeze <= encoder.num_layers:
        return freeze
    raise ValueError(
        f"freeze {freeze!r}: give {', '.join(named)}, or a number of layers from 1 to {encoder.num_layers}"
    )


class Freezing:
    """Freeze a part of the encoder, and free it step by step.

    A function of the optimizer step alone, so that a resumed training goes on with what it was doing. What is never
    freed asks for no gradient at all, so that it takes no room in DDP's buckets.

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
        if not (isinstance(unfreeze, Sequence) and all(map(_is_pair, unfreeze))):
            raise ValueError(f"unfreeze {unfreeze!r}: give pairs [optimizer step, what stays frozen], e.g. [[500, 3]]")
        stages = [(0, freeze), *unfreeze]
        self.steps = [step for step, _ in stages]
        if any(a >= b for a, b in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError(f"unfreeze has the steps {self.steps[1:]}: they must rise from 1 on")
        self.depths = [frozen_layers(what, encoder) for _, what in stages]
        self.names = [what for _, what in stages]
        encoder.freeze(self.depths[0])
        if len(stages) == 1:
            for parameter in encoder.frozen_parameters():
                parameter.requires_grad_(False)

    @property
    def frees_later(self) -> bool:
        """Whether parameters that want a gradient get none for some steps, for which DDP would wait."""
        return len(self.steps) > 1

    @property
    def always_all(self) -> bool:
        """Whether the encoder is never trained at all."""
        return all(depth == self.encoder.num_layers for depth in self.depths)

    def check_steps(self, total_steps: int) -> None:
        """Refuse a step that training does not reach.

        Raises
        ------
        ValueError
            If the last step of ``unfreeze`` is not below ``total_steps``.
        """
        if self.steps[-1] >= total_steps:
            raise ValueError(
                f"unfreeze names step {self.steps[-1]}, and training has {total_steps} of them: give earlier ones"
            )

    def __call__(self, step: int) -> int | None:
        """Freeze what is to be frozen at an optimizer step; returns how many layers, None for nothing."""
        stage = sum(first <= step for first in self.steps) - 1
        if self.depths[stage] != self.encoder.frozen_layers:
            self.encoder.freeze(self.depths[stage])
            logger.info("from optimizer step %d on, frozen: %s", self.steps[stage], self.names[stage])
        return self.depths[stage]


def _is_pair(stage: object) -> bool:
    return isinstance(stage, Sequence) and len(stage) == 2 and type(stage[0]) is int
