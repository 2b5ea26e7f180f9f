# SPDX-License-Identifier: Apache-2.0
"""Encoders of the transformers library with exits: their shape, and their weights, all of them or none."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from speechbrain_ee.lobes.encoder import ExitEncoder
from speechbrain_ee.lobes.sources import import_transformers, quiet_transformers, read_source

NO_SETTINGS = {"architectures", "transformers_version", "model_type", "quantization_config", "dtype"}


class PretrainedExitEncoder(ExitEncoder):
    """An encoder of the transformers library, as SpeechBrain's lobes load it, with exits.

    The library's layers are called one by one, unchanged; its own loop over them is not used, so that its layerdrop
    can skip none. What is saved is their shape, so that a model folder needs no ``source``.

    Arguments
    ---------
    num_layers : int
        Encoder layers; fewer than ``source`` has leaves out those above.
    exit_layers : Sequence[int]
        See :func:`~speechbrain_ee.lobes.encoder.check_exit_layers`.
    source : str | None
        A folder or a name on the HuggingFace Hub, with shape and weights; None means the shape of ``backbone`` and
        random weights.
    backbone : dict | None
        Settings by the names of the library's configuration. They replace those of ``source``, or of the library.

    Raises
    ------
    ImportError
        If the transformers library is not there.
    ValueError
        If a setting is unknown, the source has no such encoder, fewer layers, or not all weights.
    """

    model_type: str  # the library's name
    depth_setting: str  # the library's name for num_layers
    fixed_settings: dict  # what must be so whatever the source says
    lobe_options: dict = {}
    ignored_weights: tuple[str, ...] = ()  # beginnings of names that the encoder does not use

    def __init__(
        self, *, num_layers: int, exit_layers: Sequence[int], source: str | None = None, backbone: dict | None = None
    ):
        settings = self._settings(source, dict(backbone or {}), num_layers)
        shape = import_transformers().AutoConfig.for_model(self.model_type, **settings)
        self.check_shape(shape)
        super().__init__(
            exit_layers=exit_layers,
            num_layers=num_layers,
            frame_size=self.frame_size_of(shape),
            d_model=shape.hidden_size,
        )
        self.config = {"num_layers": num_layers, "exit_layers": list(exit_layers), "backbone": settings}
        self.shape = shape
        self.backbone = self.random() if source is None else self._pretrained(source)

    @staticmethod
    @abstractmethod
    def stock_lobe() -> type:
        """Class of the SpeechBrain lobe that loads the weights."""

    @staticmethod
    @abstractmethod
    def frame_size_of(shape) -> int:
        """Numbers in a feature frame, by the library's configuration."""

    @classmethod
    def check_shape(cls, shape) -> None:
        """Raise ValueError for what this encoder cannot be."""

    @staticmethod
    def encoder_of(model: nn.Module) -> nn.Module:
        """What is kept of the library's model."""
        return model

    def random(self) -> nn.Module:
        """Build what is kept of the library's model with random weights."""
        with quiet_transformers():
            return self.encoder_of(import_transformers().AutoModel.from_config(self.shape))

    def _settings(self, source: str | None, given: dict, num_layers: int) -> dict:
        """Settings that differ from the library's, plain data by known names only."""
        default = import_transformers().AutoConfig.for_model(self.model_type).to_dict()
        known = {name for name in default if name not in NO_SETTINGS and not name.startswith("_")}
        if unknown := sorted(set(given) - known):
            raise ValueError(f"backbone has {', '.join(unknown)}: no setting of {self.model_type} in transformers")
        if source is not None:
            given = self._settings_of(source, default, num_layers) | given
        given |= {self.depth_setting: num_layers} | self.fixed_settings
        return {name: value for name, value in given.items() if name in known and value != default[name]}

    def _settings_of(self, source: str, default: dict, num_layers: int) -> dict:
        said = read_source(source, "config.json", "the encoder's shape")
        if said.get("model_type") != self.model_type:
            raise ValueError(
                f"{source} is of type {said.get('model_type')!r} and {type(self).__name__} takes {self.model_type!r}: "
                "give another source, or take the yaml of that type"
            )
        depth = said.get(self.depth_setting, default[self.depth_setting])
        if num_layers > depth:
            raise ValueError(f"num_layers={num_layers} and {source} has {depth} layers: give 1 to {depth}")
        return said

    def _pretrained(self, source: str) -> nn.Module:
        """Load the weights through SpeechBrain's lobe."""
        from huggingface_hub.constants import HF_HUB_CACHE

        shape = self.shape

        class Lobe(self.stock_lobe()):
            def override_config(self, config):
                return shape

            def _from_pretrained(self, source, save_path, cache_dir, device=None, **options):
                super()._from_pretrained(source, save_path, cache_dir, device, output_loading_info=True, **options)
                self.model, self.loading = self.model

        try:
            with quiet_transformers():
                lobe = Lobe(source, HF_HUB_CACHE, **self.lobe_options)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{source}: cannot load the weights of a {self.model_type}: {reason}") from None
        self._check_loaded(source, lobe.loading)
        return self.encoder_of(lobe.model).float()

    def _check_loaded(self, source: str, loading: dict) -> None:
        """Refuse weights that are not all there; the library leaves the others random."""
        missing = [name for name in loading["missing_keys"] if not name.startswith(self.ignored_weights)]
        others = [str(name) for name in loading["mismatched_keys"]]
        for verb, names in (("lack", missing), ("have in another shape", others)):
            if names:
                first = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
                raise ValueError(
                    f"{source}: the weights {verb} {first} ({len(names)} tensors), so they are not of its config.json"
                )

    def _layer_context(self, x: torch.Tensor, lengths: torch.Tensor) -> dict:
        padding = super()._layer_context(x, lengths)["mask"]
        return {"mask": None if padding is None else ~padding[:, None, None, :]}  # True where there is something
