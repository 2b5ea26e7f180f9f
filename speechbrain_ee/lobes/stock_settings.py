# SPDX-License-Identifier: Apache-2.0
"""Read the settings of stock SpeechBrain modules, and refuse by name those that the lobes of this package lack."""

from __future__ import annotations

from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoderLayer
from speechbrain.lobes.models.transformer.Transformer import TransformerEncoderLayer
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from speechbrain.nnet.normalization import LayerNorm
from torch import nn

from speechbrain_ee.lobes.conformer import ACTIVATIONS, ATTENTION_TYPES
from speechbrain_ee.lobes.frontend import PADDING_MODES, ConvSubsampling
from speechbrain_ee.lobes.stock_checks import check_setting


def encoder_settings(cnn: ConvolutionFrontEnd, transformer: TransformerASR) -> dict:
    """Return the arguments of an encoder with exits, except ``exit_layers``.

    Raises
    ------
    ValueError
        If a setting has no equal.
    """
    layers = getattr(getattr(transformer, "encoder", None), "layers", [None])
    layer = layers[0]
    found = front_end_settings(cnn) | {
        "num_layers": len(layers),
        "d_model": transformer.custom_src_module.layers[0].w.out_features,
        "dropout": transformer.custom_src_module.layers[1].p,
        "attention_type": transformer.attention_type,
        "max_length": getattr(getattr(transformer, "positional_encoding", None), "max_len", 2500),
    }
    check_setting("attention_type", found["attention_type"], ATTENTION_TYPES)
    check_setting("causal", transformer.causal, (False,))
    check_setting("layerdrop_prob", transformer.layerdrop_prob, (0.0,))
    if isinstance(layer, ConformerEncoderLayer):
        attention, ffn = layer.mha_layer, layer.ffn_module1[1]
        found["kernel_size"] = layer.convolution_module.kernel_size
        if found["kernel_size"] % 2 == 0:
            raise ValueError(f"kernel_size is {found['kernel_size']}: an encoder with exits needs an odd one")
    elif isinstance(layer, TransformerEncoderLayer):
        attention, ffn = layer.self_att, layer.pos_ffn
        check_setting("normalize_before", layer.normalize_before, (True,))
        check_setting("ffn_type", layer.pos_ffn_type, ("regularFFN",))
        names = {cls: name for name, cls in ACTIVATIONS.items()}
        check_setting("activation", type(ffn.ffn[1]).__name__, [cls.__name__ for cls in names])
        found["activation"] = names[type(ffn.ffn[1])]
    else:
        kind = type(getattr(transformer, "encoder", None)).__name__
        raise ValueError(f"encoder_module is a {kind}: only conformer and transformer encoders can have exits")
    nhead = attention.att.num_heads if hasattr(attention, "att") else attention.num_heads
    return found | {"nhead": nhead, "d_ffn": ffn.ffn[0].out_features}


def front_end_settings(cnn: ConvolutionFrontEnd) -> dict:
    """Return the arguments of an encoder that its front-end determines."""
    channels, modes = [], set()
    for block in cnn.children():
        check_setting(
            "num_layers_per_block", sum(name.startswith("conv_") for name, _ in block.convs.named_children()), (1,)
        )
        check_setting("residuals", block.reduce_conv is not None, (False,))
        conv, norm = block.convs.conv_0, getattr(block.convs, "norm_0", None)
        check_setting("kernel_sizes", conv.conv.kernel_size, ((ConvSubsampling.kernel_size,) * 2,))
        check_setting("strides", conv.conv.stride, ((ConvSubsampling.stride,) * 2,))
        check_setting("dilations", conv.conv.dilation, ((1, 1),))
        check_setting("padding", conv.padding, ("same",))
        check_setting("padding_mode", conv.padding_mode, PADDING_MODES)
        check_setting("norm", type(norm).__name__, (LayerNorm.__name__,))
        check_setting("activation of the front-end", type(block.convs.act_0).__name__, (nn.LeakyReLU.__name__,))
        channels.append(conv.conv.out_channels)
        modes.add(conv.padding_mode)
    if len(modes) != 1:
        raise ValueError(f"the blocks of the front-end pad by {', '.join(sorted(modes)) or 'nothing'}: give one mode")
    return {"n_mels": int(cnn.input_shape[-1]), "channels": channels, "padding_mode": modes.pop()}


def decoder_settings(transformer: TransformerASR) -> dict:
    """Return the arguments of heads with attention decoders that the recipe's decoder determines."""
    if not hasattr(transformer, "decoder"):
        raise ValueError("num_decoder_layers is 0: leave out transformer and seq_lin")
    layers = transformer.decoder.layers
    own_positions = hasattr(transformer, "positional_encoding_decoder")
    positions = transformer.positional_encoding_decoder if own_positions else transformer.positional_encoding
    check_setting("normalize_before", layers[0].normalize_before, (True,))
    check_setting("activation of the decoder", type(layers[0].pos_ffn.ffn[1]).__name__, (nn.GELU.__name__,))
    return {
        "nhead": layers[0].self_attn.att.num_heads,
        "d_ffn": layers[0].pos_ffn.ffn[0].out_features,
        "num_decoder_layers": len(layers),
        "decoder_dropout": layers[0].dropout1.p,
        "max_length": positions.max_len,
    }


def fbank_settings(fbank: Fbank) -> dict:
    """Return the arguments of ``LogMel``."""
    stft, filters = fbank.compute_STFT, fbank.compute_fbanks
    check_setting("deltas", fbank.deltas, (False,))
    check_setting("context", fbank.context, (False,))
    check_setting("requires_grad", fbank.requires_grad, (False,))
    check_setting("f_min", filters.f_min, (0,))
    check_setting("filter_shape", filters.filter_shape, ("triangular",))
    check_setting("param_rand_factor", filters.param_rand_factor, (0.0,))
    return {
        "sample_rate": stft.sample_rate,
        "n_mels": filters.n_mels,
        "n_fft": stft.n_fft,
        "win_length_ms": _plain(1000 * stft.win_length / stft.sample_rate),
        "hop_length_ms": _plain(1000 * stft.hop_length / stft.sample_rate),
        "f_max": None if filters.f_max == stft.sample_rate // 2 else filters.f_max,
    }


def _plain(number: float) -> int | float:
    return int(number) if number == int(number) else number
