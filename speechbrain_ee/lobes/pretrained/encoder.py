# SPDX-License-Identifier: Apache-2.0
"""The base class of encoders of the transformers library with exits: configuration and strict loading of weights."""

import inspect
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ee_runtime.errors import one_line
from ee_runtime.files import check_not_pointer
from speechbrain_ee.lobes.encoder import ExitEncoder
from speechbrain_ee.lobes.pretrained.sources import import_transformers, quiet_transformers, read_source

WEIGHTS = ("*.safetensors", "*.bin")  # SpeechBrain's .ckpt files use other tensor names


class PretrainedExitEncoder(ExitEncoder):
    """An encoder of the transformers library, loaded by SpeechBrain's lobes, with exits.

    The library's unchanged layers are called one by one. Its own loop over the layers is not used, so its layerdrop
    never skips a layer. ``config`` has the encoder's full configuration, so a saved model does not need ``source``.

    Arguments
    ---------
    num_layers : int
        Number of encoder layers. If ``source`` has more, its upper layers are left out.
    exit_layers : Sequence[int]
        See :func:`~speechbrain_ee.lobes.encoder.check_exit_layers`.
    source : str | None
        A folder, or a name on the HuggingFace Hub, with configuration and weights. None means the configuration of
        ``backbone`` and random weights.
    backbone : dict | None
        Values of :attr:`settings`, by the library's names. They replace those of ``source`` or the library's defaults.

    Raises
    ------
    ImportError
        If the transformers library is not installed.
    ValueError
        If a setting is unknown, or the source has another type of encoder, fewer layers or incomplete weights.
    """

    model_type: str  # the library's name of the architecture
    depth_setting: str  # the library's name for num_layers
    settings: tuple[str, ...]  # the library's names of all settings of the encoder
    fixed_settings: dict  # settings that replace those of the source
    not_supported: tuple[str, ...] = ()  # settings of a source with an effect that is not implemented
    lobe_options: dict = {}
    attention = "sdpa"  # takes our boolean mask; the library's eager attention would add it to the scores
    ignored_weights: tuple[str, ...] = ()  # prefixes of weights that the encoder does not use

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
        """Return the class of the SpeechBrain lobe that loads the weights."""

    @staticmethod
    @abstractmethod
    def frame_size_of(shape) -> int:
        """Return the size of a feature frame, from the library's configuration."""

    @staticmethod
    def encoder_of(model: nn.Module) -> nn.Module:
        """Return the encoder of the library's model."""
        return model

    def random(self) -> nn.Module:
        """Build the encoder with random weights."""
        with quiet_transformers():
            return self.encoder_of(import_transformers().AutoModel.from_config(self.shape))

    def _settings(self, source: str | None, given: dict, num_layers: int) -> dict:
        """Return all settings of the encoder, also the defaults, which may change in a later version of the library."""
        default = import_transformers().AutoConfig.for_model(self.model_type).to_dict()
        if unknown := sorted(set(given) - set(self.settings)):
            raise ValueError(
                f"backbone has {', '.join(unknown)}: settings of {self.model_type} are {', '.join(self.settings)}"
            )
        if source is not None:
            stated = self._read_settings(source, default, num_layers)
            given = {name: stated[name] for name in self.settings if name in stated} | given
        return {name: given.get(name, default[name]) for name in self.settings} | {self.depth_setting: num_layers}

    def _read_settings(self, source: str, default: dict, num_layers: int) -> dict:
        stated = read_source(source, "config.json", "the encoder's configuration")
        if stated.get("model_type") != self.model_type:
            raise ValueError(
                f"{source} is of type {stated.get('model_type')!r}, but {type(self).__name__} takes "
                f"{self.model_type!r}: give another source, or use the yaml of that type"
            )
        depth = stated.get(self.depth_setting, default[self.depth_setting])
        if not isinstance(depth, int):
            raise ValueError(f"{source}: {self.depth_setting} is {depth!r} in its config.json: it must be an integer")
        if num_layers > depth:
            raise ValueError(f"num_layers={num_layers}, but {source} has {depth} layers: give 1 to {depth}")
        for name in self.not_supported:
            if stated.get(name):
                raise ValueError(f"{source} has {name} set, which is not supported with exits: give another source")
        return stated

    def _make_shape(self, settings: dict):
        """Make the library's configuration object."""
        try:
            shape = import_transformers().AutoConfig.for_model(self.model_type, **settings | self.fixed_settings)
            shape._attn_implementation = self.attention
            return shape
        except ImportError:
            raise
        except Exception as error:  # the library has its own error classes for invalid values
            raise ValueError(f"invalid settings of {self.model_type}: {one_line(error)[:300]}") from None

    def _pretrained(self, source: str) -> nn.Module:
        """Load the weights with SpeechBrain's lobe."""
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
            raise ValueError(f"{source} has no weights: give a folder with model.safetensors")
        for path in (path for pattern in WEIGHTS for path in Path(source).glob(pattern)):
            check_not_pointer(path)
        try:
            with quiet_transformers():
                lobe = Lobe(source, HF_HUB_CACHE, **self.lobe_options)
        except Exception as error:  # broken files and networks raise many kinds of errors
            raise ValueError(
                f"{source}: cannot load the weights of a {self.model_type}: {one_line(error)[:300]}"
            ) from None
        self._check_loaded(source, lobe.loading)
        return self.encoder_of(lobe.model).float()

    def _check_loaded(self, source: str, loading: dict) -> None:
        """Refuse incomplete weights; the library would leave the others random."""
        missing = [name for name in loading["missing_keys"] if not name.startswith(self.ignored_weights)]
        others = [str(name) for name in loading["mismatched_keys"]]
        for verb, names in (("lack", missing), ("have in another shape", others)):
            if names:
                first = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
                raise ValueError(
                    f"{source}: the weights {verb} {first} ({len(names)} tensors): they do not fit its config.json"
                )

    def call_layer(self, layer: int, x: torch.Tensor, **arguments) -> torch.Tensor:
        """Call a layer of the library. Before release 5.15 layers returned tuples, and Whisper's took a head mask.

        Arguments
        ---------
        layer : int
            Number of the layer, counted from 1.
        x : torch.Tensor
            Input of the layer, (batch, frames, d_model).
        **arguments
            Other arguments, by the library's names.

        Returns
        -------
        torch.Tensor
            (batch, frames, d_model).
        """
        output = self.layers[layer - 1](x, **arguments, **self._head_mask)
        return output[0] if isinstance(output, tuple) else output

    def layer_context(self, x: torch.Tensor, padding: torch.Tensor | None) -> dict:
        """See :meth:`ExitEncoder.layer_context`."""
        return {"mask": None if padding is None else ~padding[:, None, None, :]}  # True at valid frames
