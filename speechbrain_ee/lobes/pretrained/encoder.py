# SPDX-License-Identifier: Apache-2.0
"""Encoders of the transformers library with exits: their shape, and their weights, all of them or none."""

import inspect
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from speechbrain_ee.files import check_not_pointer
from speechbrain_ee.lobes.encoder import ExitEncoder
from speechbrain_ee.lobes.pretrained.sources import import_transformers, quiet_transformers, read_source

WEIGHTS = ("*.safetensors", "*.bin")  # SpeechBrain's own .ckpt names its tensors otherwise


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
        Some of :attr:`settings`, by the library's names. They replace those of ``source``, or of the library.

    Raises
    ------
    ImportError
        If the transformers library is not there.
    ValueError
        If a setting is unknown, the source has no such encoder, fewer layers, or not all weights.
    """

    model_type: str  # the library's name
    depth_setting: str  # the library's name for num_layers
    settings: tuple[str, ...]  # the library's names of all that shapes the encoder
    fixed_settings: dict  # what must be so whatever the source says
    not_supported: tuple[str, ...] = ()  # settings of a source that would change what the encoder gives
    lobe_options: dict = {}
    attention = "sdpa"  # our mask is of truth values, which the library's eager form would add to the scores
    ignored_weights: tuple[str, ...] = ()  # beginnings of names that the encoder does not use

    def __init__(
        self, *, num_layers: int, exit_layers: Sequence[int], source: str | None = None, backbone: dict | None = None
    ):
        settings = self._settings(source, dict(backbone or {}), num_layers)
        shape = self._make_shape(settings)
        super().__init__(
            exit_layers=exit_layers,
            num_layers=num_layers,
            frame_size=self.frame_size_of(shape),
            d_model=shape.hidden_size,
        )
        self.config = {"num_layers": num_layers, "exit_layers": list(exit_layers), "backbone": settings}
        self.shape = shape
        self.backbone = self.random() if source is None else self._pretrained(source)
        takes_head_mask = "layer_head_mask" in inspect.signature(self.layers[0].forward).parameters
        self._head_mask = {"layer_head_mask": None} if takes_head_mask else {}

    @staticmethod
    @abstractmethod
    def stock_lobe() -> type:
        """Class of the SpeechBrain lobe that loads the weights."""

    @staticmethod
    @abstractmethod
    def frame_size_of(shape) -> int:
        """Numbers in a feature frame, by the library's configuration."""

    @staticmethod
    def encoder_of(model: nn.Module) -> nn.Module:
        """What is kept of the library's model."""
        return model

    def random(self) -> nn.Module:
        """Build what is kept of the library's model with random weights."""
        with quiet_transformers():
            return self.encoder_of(import_transformers().AutoModel.from_config(self.shape))

    def _settings(self, source: str | None, given: dict, num_layers: int) -> dict:
        """All settings that the encoder goes by, plain data: a later version of the library may have other defaults."""
        default = import_transformers().AutoConfig.for_model(self.model_type).to_dict()
        if unknown := sorted(set(given) - set(self.settings)):
            raise ValueError(f"backbone has {', '.join(unknown)}: {self.model_type} goes by {', '.join(self.settings)}")
        if source is not None:
            said = self._said_by(source, default, num_layers)
            given = {name: said[name] for name in self.settings if name in said} | given
        return {name: given.get(name, default[name]) for name in self.settings} | {self.depth_setting: num_layers}

    def _said_by(self, source: str, default: dict, num_layers: int) -> dict:
        said = read_source(source, "config.json", "the encoder's shape")
        if said.get("model_type") != self.model_type:
            raise ValueError(
                f"{source} is of type {said.get('model_type')!r} and {type(self).__name__} takes {self.model_type!r}: "
                "give another source, or take the yaml of that type"
            )
        depth = said.get(self.depth_setting, default[self.depth_setting])
        if not isinstance(depth, int):
            raise ValueError(f"{source}: {self.depth_setting} is {depth!r} in its config.json, and no number of layers")
        if num_layers > depth:
            raise ValueError(f"num_layers={num_layers} and {source} has {depth} layers: give 1 to {depth}")
        for name in self.not_supported:
            if said.get(name):
                raise ValueError(f"{source} has {name} set, which exits do not go through: give another source")
        return said

    def _make_shape(self, settings: dict):
        """The library's configuration."""
        try:
            shape = import_transformers().AutoConfig.for_model(self.model_type, **settings | self.fixed_settings)
            shape._attn_implementation = self.attention
            return shape
        except ImportError:
            raise
        except Exception as error:  # the library has classes of its own for a value of another type
            raise ValueError(
                f"no {self.model_type} can have this shape: {' '.join(str(error).split())[:300]}"
            ) from None

    def _pretrained(self, source: str) -> nn.Module:
        """Load the weights through SpeechBrain's lobe."""
        from huggingface_hub.constants import HF_HUB_CACHE

        settings = self.config["backbone"] | self.fixed_settings | {"_attn_implementation": self.attention}

        class Lobe(self.stock_lobe()):
            def override_config(self, config):
                for name, value in settings.items():
                    setattr(config, name, value)
                return config

            def _from_pretrained(self, source, save_path, cache_dir, device=None, **options):
                super()._from_pretrained(source, save_path, cache_dir, device, output_loading_info=True, **options)
                self.model, self.loading = self.model

        if Path(source).is_dir() and not any(any(Path(source).glob(pattern)) for pattern in WEIGHTS):
            raise ValueError(f"{source} has no weights: a folder of the library has model.safetensors")
        for path in (path for pattern in WEIGHTS for path in Path(source).glob(pattern)):
            check_not_pointer(path)
        try:
            with quiet_transformers():
                lobe = Lobe(source, HF_HUB_CACHE, **self.lobe_options)
        except Exception as error:  # broken files and networks fail in many ways, deep in the libraries
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

    def call_layer(self, layer: int, x: torch.Tensor, **arguments) -> torch.Tensor:
        """Call a layer of the library; until release 5.15 its layers gave tuples, and Whisper's asked for a head mask.

        Arguments
        ---------
        layer : int
            1 is the first.
        x : torch.Tensor
            Its input, (batch, frames, d_model).
        **arguments
            Others, by the library's names.

        Returns
        -------
        torch.Tensor
            (batch, frames, d_model).
        """
        output = self.layers[layer - 1](x, **arguments, **self._head_mask)
        return output[0] if isinstance(output, tuple) else output

    def _layer_context(self, x: torch.Tensor, lengths: torch.Tensor) -> dict:
        padding = super()._layer_context(x, lengths)["mask"]
        return {"mask": None if padding is None else ~padding[:, None, None, :]}  # True where there is something
