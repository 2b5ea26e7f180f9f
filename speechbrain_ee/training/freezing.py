# SPDX-License-Identifier: Apache-2.0
"""Freeze a part of the encoder, and unfreeze it at given optimizer steps."""

from collections.abc import Sequence

from speechbrain.utils.logger import get_logger

from speechbrain_ee.lobes.encoder import ExitEncoder

logger = get_logger(__name__)

NOTHING, FEATURE_EXTRACTOR, FRONT_END, ENCODER = "nothing", "feature_extractor", "front_end", "encoder"


def frozen_layers(freeze: str | int, encoder: ExitEncoder) -> int | None:
    """Convert a ``freeze`` setting to a number of layers for :meth:`ExitEncoder.freeze`.

    Arguments
    ---------
    freeze : str | int
        ``nothing``; ``feature_extractor``, the convolutions of encoders that take waveforms; ``front_end``, everything
        before layer 1; a number, the front-end and that many layers; or ``encoder``, the whole encoder.
    encoder : ExitEncoder
        The encoder.

    Returns
    -------
    int | None
        Number of frozen layers; None for no freezing.

    Raises
    ------
    ValueError
        If the setting is unknown.

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
    """Freezes a part of the encoder, and unfreezes it gradually.

    The state depends only on the optimizer step, so that resumed training continues correctly. Parameters that are
    never unfrozen have ``requires_grad=False``, so that DDP allocates no buckets for them.

    Arguments
    ---------
    encoder : ExitEncoder
        The encoder.
    freeze : str | int
        Initially frozen part; see :func:`frozen_layers`.
    unfreeze : Sequence[Sequence]
        Pairs (optimizer step, part that stays frozen from this step on) with increasing steps.

    Raises
    ------
    ValueError
        If a setting is unknown or the steps do not increase.

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
            raise ValueError(
                f"unfreeze {unfreeze!r}: give pairs [optimizer step, part that stays frozen], e.g. [[500, 3]]"
            )
        stages = [(0, freeze), *unfreeze]
        self.steps = [step for step, _ in stages]
        if any(a >= b for a, b in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError(f"unfreeze has the steps {self.steps[1:]}: give increasing steps, from 1 on")
        self.depths = [frozen_layers(what, encoder) for _, what in stages]
        self.names = [what for _, what in stages]
        encoder.freeze(self.depths[0])
        if len(stages) == 1:
            for parameter in encoder.frozen_parameters():
                parameter.requires_grad_(False)

    @property
    def frees_later(self) -> bool:
        """Whether some trainable parameters receive no gradient for a while, which DDP must be told."""
        return len(self.steps) > 1

    @property
    def always_all(self) -> bool:
        """Whether the whole encoder is frozen for the whole training."""
        return all(depth == self.encoder.num_layers for depth in self.depths)

    def check_steps(self, total_steps: int) -> None:
        """Check that training reaches every step of ``unfreeze``.

        Raises
        ------
        ValueError
            If the last step of ``unfreeze`` is not below ``total_steps``.
        """
        if self.steps[-1] >= total_steps:
            raise ValueError(
                f"unfreeze names step {self.steps[-1]}, but training has only {total_steps} steps: give earlier ones"
            )

    def __call__(self, step: int) -> int | None:
        """Apply the freezing of an optimizer step; return the number of frozen layers, None for no freezing."""
        stage = sum(first <= step for first in self.steps) - 1
        if self.depths[stage] != self.encoder.frozen_layers:
            self.encoder.freeze(self.depths[stage])
            logger.info("from optimizer step %d on, frozen: %s", self.steps[stage], self.names[stage])
        return self.depths[stage]


def _is_pair(stage: object) -> bool:
    return isinstance(stage, Sequence) and len(stage) == 2 and type(stage[0]) is int
