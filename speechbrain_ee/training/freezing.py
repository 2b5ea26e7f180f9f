# SPDX-License-Identifier: Apache-2.0
"""Freezing of encoder layers, and gradual unfreezing by optimizer step."""

from collections.abc import Sequence

from speechbrain.utils.logger import get_logger
from torch import nn

from speechbrain_ee.lobes.encoder import ExitEncoder

logger = get_logger(__name__)

NOTHING, FEATURE_EXTRACTOR, FRONT_END, ENCODER = "nothing", "feature_extractor", "front_end", "encoder"


def frozen_layers(freeze: str | int, encoder: ExitEncoder) -> int | None:
    """Turn the setting ``freeze`` of a yaml into a number of layers.

    Arguments
    ---------
    freeze : str | int
        ``nothing``; ``feature_extractor``: the convolutions of encoders that take waveforms; ``front_end``: everything
        before layer 1; a number: the front-end and that many layers; ``encoder``: the whole encoder.
    encoder : ExitEncoder
        The encoder.

    Returns
    -------
    int | None
        Frozen layers; 0 is the front-end alone, -1 the feature extractor alone, None nothing.

    Raises
    ------
    ValueError
        If the setting is not one of these.

    Example
    -------
    >>> from speechbrain_ee.lobes import TransformerExitEncoder
    >>> encoder = TransformerExitEncoder(n_mels=8, num_layers=6, exit_layers=[6], d_model=8, nhead=2, d_ffn=8)
    >>> [frozen_layers(one, encoder) for one in ("nothing", "front_end", 3, "encoder")]
    [None, 0, 3, 6]
    """
    named = {NOTHING: None, FRONT_END: 0, ENCODER: encoder.num_layers}
    if encoder.feature_extractor is not None:
        named[FEATURE_EXTRACTOR] = -1
    if isinstance(freeze, str) and freeze in named:
        return named[freeze]
    if type(freeze) is int and 0 < freeze <= encoder.num_layers:
        return freeze
    raise ValueError(
        f"freeze {freeze!r}: give {', '.join(named)}, or a number of layers from 1 to {encoder.num_layers}"
    )


def frozen_parameters(encoder: ExitEncoder, num_layers: int | None) -> list[nn.Parameter]:
    """Return the parameters that are frozen with ``num_layers``, see :func:`frozen_layers`."""
    if num_layers is None:
        return []
    if num_layers < 0:
        return list(encoder.feature_extractor.parameters())
    trained = [encoder.layers[num_layers:]]
    if num_layers < encoder.num_layers and encoder.final_norm is not None:
        trained.append(encoder.final_norm)
    trained_ids = {id(parameter) for module in trained for parameter in module.parameters()}
    return [parameter for parameter in encoder.parameters() if id(parameter) not in trained_ids]


class Freezing:
    """Freeze a part of the encoder, and unfreeze it step by step.

    Frozen parameters require no gradient, so no graph is built below the first trained layer. Frozen modules stay in
    evaluation mode, without dropout. The frozen part depends on the optimizer step alone, so a resumed training
    continues with the same part.

    Under DDP, parameters that are unfrozen later must require a gradient when the model is wrapped: they are frozen by
    the first call. Parameters that are never unfrozen are frozen here and take no room in DDP's buckets.

    Arguments
    ---------
    encoder : ExitEncoder
        The encoder.
    freeze : str | int
        Part that is frozen from the start; see :func:`frozen_layers`.
    unfreeze : Sequence[Sequence]
        Gradual unfreezing: pairs (optimizer step, part that is frozen from this step on), steps rising.

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
            raise ValueError(f"unfreeze has the steps {self.steps[1:]}: give increasing steps, from 1 on")
        self.depths = [frozen_layers(part, encoder) for _, part in stages]
        self.names = [part for _, part in stages]
        self.depth = self.depths[0]
        self._trainable = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        if len(stages) == 1:
            self._set_requires_grad()

    @property
    def frees_later(self) -> bool:
        """Whether parameters that are trained later get no gradient at first: DDP must look for unused parameters."""
        return len(self.steps) > 1

    @property
    def always_all(self) -> bool:
        """Whether the whole encoder is frozen throughout training."""
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
        """Freeze the part for an optimizer step; call it before every training batch, after ``encoder.train()``.

        Returns
        -------
        int | None
            Frozen layers, see :func:`frozen_layers`.
        """
        stage = sum(first <= step for first in self.steps) - 1
        if self.depths[stage] != self.depth:
            self.depth = self.depths[stage]
            logger.info("from optimizer step %d on, frozen: %s", self.steps[stage], self.names[stage])
        self._set_requires_grad()
        self._set_mode()
        return self.depth

    def _set_requires_grad(self) -> None:
        frozen = {id(parameter) for parameter in frozen_parameters(self.encoder, self.depth)}
        for parameter in self._trainable:
            parameter.requires_grad_(id(parameter) not in frozen)

    def _set_mode(self) -> None:
        """Set the frozen modules to evaluation mode, and the others to the mode of the encoder."""
        encoder, mode = self.encoder, self.encoder.training
        encoder.train(mode)
        if self.depth is None:
            return
        if self.depth < 0:
            encoder.feature_extractor.eval()
            return
        encoder.eval()
        encoder.training = mode  # the encoder itself is in training, see ExitEncoder._context
        encoder.layers[self.depth :].train(mode)


def _is_pair(stage: object) -> bool:
    return isinstance(stage, Sequence) and len(stage) == 2 and type(stage[0]) is int
