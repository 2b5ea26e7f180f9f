# SPDX-License-Identifier: Apache-2.0
"""Conformer and Transformer encoders with exits, based on SpeechBrain's TransformerASR."""

from collections.abc import Sequence

import torch
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoderLayer, ConvolutionModule
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR

from ee_runtime.cost import ConvStage
from speechbrain_ee.lobes.encoder import EncoderState, ExitEncoder, constructor_arguments
from speechbrain_ee.lobes.frontend import ConvSubsampling

ACTIVATIONS = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU}  # of a Transformer's feed-forward networks
ATTENTION_TYPES = ("regularMHA", "RelPosMHAXL", "RoPEMHA")


class MaskedConvolutionModule(ConvolutionModule):
    """SpeechBrain's Conformer convolution with padding set to zero *before* the depthwise convolution.

    The stock module masks only its output, so the last frames of an utterance depend on the values in the padding and
    thus on the batch. Without padding the two modules are equal.

    Example
    -------
    >>> module = MaskedConvolutionModule(8, 3)
    >>> module(torch.randn(2, 5, 8), torch.zeros(2, 5, 1, dtype=torch.bool)).shape
    torch.Size([2, 5, 8])
    """

    @classmethod
    def from_stock(cls, stock: ConvolutionModule) -> "MaskedConvolutionModule":
        """Make a module that shares the layers of a stock module."""
        module = cls(stock.layer_norm.normalized_shape[0], stock.kernel_size, causal=stock.causal)
        for name in ("layer_norm", "bottleneck", "conv", "after_conv"):
            setattr(module, name, getattr(stock, name))
        return module

    def forward(self, x, mask=None, dynchunktrain_config=None):
        """Apply the convolution to x (batch, frames, d_model); mask (batch, frames, 1) is True at padding."""
        if mask is None or dynchunktrain_config is not None:
            return super().forward(x, mask, dynchunktrain_config)
        out = self.bottleneck(self.layer_norm(x).transpose(1, 2))
        out = self.conv(out.masked_fill_(mask.transpose(1, 2), 0.0))
        if self.causal:
            out = out[..., : -self.padding]
        return self.after_conv(out.transpose(1, 2)).masked_fill_(mask, 0.0)


class TransformerExitEncoder(ExitEncoder):
    """A stock SpeechBrain Transformer encoder, with exits.

    ``transformer`` is an unchanged ``TransformerASR`` without decoder. Its layers are called one by one: attention maps
    are discarded and layerdrop is not used. The states of all exits pass through the encoder's final norm, so the last
    exit equals the stock encoder, and every other exit equals a shallower encoder.

    Arguments
    ---------
    n_mels : int
        Size of a feature frame.
    num_layers : int
        Number of encoder layers.
    exit_layers : Sequence[int]
        See :func:`~speechbrain_ee.lobes.encoder.check_exit_layers`.
    d_model : int
        Width of the encoder.
    nhead : int
        Number of attention heads.
    d_ffn : int
        Width of the feed-forward networks.
    dropout : float
        Dropout of front-end and layers.
    attention_type : str
        ``regularMHA`` with absolute positional encoding (as in the paper), ``RelPosMHAXL`` or ``RoPEMHA``.
    channels : Sequence[int]
        Channels of the front-end's blocks; each block halves the frame rate.
    max_length : int
        Longest input of ``regularMHA`` in encoder frames: the size of the table of positional encodings.
    padding_mode : str
        How the front-end pads: ``constant`` (zeros) or ``reflect``, as in SpeechBrain's recipes; see
        :class:`~speechbrain_ee.lobes.frontend.ConvSubsampling`.
    activation : str
        Activation of the feed-forward networks: ``relu``, or ``gelu`` as in SpeechBrain's recipes. A Conformer has
        Swish instead and takes only the default.

    Raises
    ------
    ValueError
        If an argument is not one of those named above, or ``d_model`` is not a multiple of ``nhead``.

    Example
    -------
    >>> encoder = TransformerExitEncoder(n_mels=80, num_layers=4, exit_layers=[2, 4], d_model=16, nhead=2, d_ffn=32)
    >>> states, lengths = encoder(torch.randn(2, 101, 80), torch.tensor([101, 60]))
    >>> [state.shape for state in states], lengths.tolist()
    ([torch.Size([2, 26, 16]), torch.Size([2, 26, 16])], [26, 15])
    """

    encoder_module = "transformer"
    activations = tuple(ACTIVATIONS)

    def __init__(
        self,
        *,
        n_mels: int,
        num_layers: int,
        exit_layers: Sequence[int],
        d_model: int,
        nhead: int,
        d_ffn: int,
        dropout: float = 0.1,
        attention_type: str = "regularMHA",
        channels: Sequence[int] = (64, 32),
        max_length: int = 2500,
        padding_mode: str = "constant",
        activation: str = "relu",
    ):
        arguments = constructor_arguments(locals())
        super().__init__(exit_layers=exit_layers, num_layers=num_layers, frame_size=n_mels, d_model=d_model)
        self.config = arguments | {"exit_layers": list(exit_layers), "channels": list(channels)}
        if d_model % nhead:
            raise ValueError(f"d_model={d_model} is not a multiple of nhead={nhead}: change one of them")
        if activation not in self.activations:
            raise ValueError(f"activation {activation!r} is not one of {', '.join(self.activations)}")
        self.frontend = ConvSubsampling(n_mels=n_mels, channels=channels, dropout=dropout, padding_mode=padding_mode)
        self.transformer = self._build(self.frontend.output_size, **self._stock_arguments())

    def _stock_arguments(self) -> dict:
        names = ("d_model", "nhead", "d_ffn", "dropout", "attention_type", "max_length")
        stock = {"num_encoder_layers": self.num_layers, "activation": ACTIVATIONS[self.config["activation"]]}
        return {name: self.config[name] for name in names} | stock

    def _build(self, input_size: int, *, attention_type: str, **arguments) -> TransformerASR:
        if attention_type not in ATTENTION_TYPES:
            raise ValueError(f"attention_type {attention_type!r} is not one of {', '.join(ATTENTION_TYPES)}")
        return TransformerASR(
            tgt_vocab=1,  # there is no decoder
            input_size=input_size,
            num_decoder_layers=0,
            encoder_module=self.encoder_module,
            attention_type=attention_type,
            positional_encoding="fixed_abs_sine" if attention_type == "regularMHA" else None,
            normalize_before=True,
            causal=False,
            **arguments,
        )

    @property
    def max_output_frames(self) -> int | None:
        """See :attr:`ExitEncoder.max_output_frames`: the size of the table of positional encodings."""
        return self.config["max_length"] if self.config["attention_type"] == "regularMHA" else None

    @property
    def layers(self) -> torch.nn.ModuleList:
        """See :attr:`ExitEncoder.layers`."""
        return self.transformer.encoder.layers

    @property
    def final_norm(self) -> torch.nn.Module:
        """See :attr:`ExitEncoder.final_norm`."""
        return self.transformer.encoder.norm

    def front_end(self, feats: torch.Tensor, num_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`ExitEncoder.front_end`.

        Raises
        ------
        ValueError
            If an utterance is longer than ``max_length``.
        """
        x, lengths = self.frontend(feats, num_frames)
        limit = self.max_output_frames
        if limit is not None and x.shape[1] > limit:
            raise ValueError(f"{x.shape[1]} encoder frames are more than max_length={limit}: cut the audio")
        return self.project(x), lengths

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Project subsampled features (batch, frames, size) to ``d_model``, and add absolute positions if used."""
        x = self.transformer.custom_src_module(x)
        return x + self.transformer.positional_encoding(x) if self.config["attention_type"] == "regularMHA" else x

    def layer_context(self, x: torch.Tensor, padding: torch.Tensor | None) -> dict:
        """See :meth:`ExitEncoder.layer_context`."""
        context = super().layer_context(x, padding)
        if self.config["attention_type"] == "RelPosMHAXL":
            context["pos_embs"] = self.transformer.positional_encoding(x)
        return context

    def run_layer(self, layer: int, state: EncoderState) -> torch.Tensor:
        """See :meth:`ExitEncoder.run_layer`."""
        x, _ = self.layers[layer - 1](state.x, src_key_padding_mask=state.mask, pos_embs=state.pos_embs)
        return x

    @property
    def conv_stages(self) -> list[ConvStage]:
        """See :attr:`ExitEncoder.conv_stages`."""
        return self.frontend.conv_stages

    @property
    def front_cost(self) -> tuple[int, int]:
        """See :attr:`ExitEncoder.front_cost`: the projection to ``d_model``."""
        return 0, self.frontend.output_size * self.config["d_model"]

    @property
    def layer_cost(self) -> tuple[int, int, int]:
        """See :attr:`ExitEncoder.layer_cost`: attention and one feed-forward network."""
        width = self.config["d_model"]
        constant, per_frame, per_square = 0, 4 * width**2 + 2 * width * self.config["d_ffn"], 2 * width
        if self.config["attention_type"] == "RelPosMHAXL":
            # Projection of 2 * frames - 1 positions, and their scores with every query.
            constant -= width**2
            per_frame += 2 * width**2 - width
            per_square += 2 * width
        return constant, per_frame, per_square


class ConformerExitEncoder(TransformerExitEncoder):
    """A stock SpeechBrain Conformer encoder, with exits, as in the paper's models trained from scratch.

    Arguments
    ---------
    kernel_size : int
        Kernel size of the depthwise convolution, odd.
    **arguments
        See :class:`TransformerExitEncoder`.

    Example
    -------
    >>> encoder = ConformerExitEncoder(n_mels=80, num_layers=2, exit_layers=[1, 2], d_model=16, nhead=2, d_ffn=32)
    >>> state = encoder.start(torch.randn(2, 101, 80), torch.tensor([101, 60]))
    >>> state, exit_state = encoder.advance(state)
    >>> exit_state.shape
    torch.Size([2, 26, 16])
    >>> encoder.keep(state, torch.tensor([1])).x.shape
    torch.Size([1, 15, 16])
    """

    encoder_module = "conformer"
    activations = ("relu",)  # unused: the layers have Swish

    def __init__(self, *, kernel_size: int = 31, **arguments):
        if kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size={kernel_size} is even: give an odd one, so that the kernel is centred on a frame"
            )
        self._kernel_size = kernel_size
        super().__init__(**arguments)
        self.config["kernel_size"] = kernel_size

    def _build(self, input_size: int, **arguments) -> TransformerASR:
        transformer = super()._build(input_size, kernel_size=self._kernel_size, **arguments)
        for layer in transformer.encoder.layers:
            if isinstance(layer, ConformerEncoderLayer):
                layer.convolution_module = MaskedConvolutionModule.from_stock(layer.convolution_module)
        return transformer

    @property
    def layer_cost(self) -> tuple[int, int, int]:
        """See :attr:`ExitEncoder.layer_cost`: attention, two feed-forward networks, and the convolution."""
        constant, per_frame, per_square = super().layer_cost
        width = self.config["d_model"]
        second_ffn, convolution = 2 * width * self.config["d_ffn"], width * (3 * width + self._kernel_size)
        return constant, per_frame + second_ffn + convolution, per_square
