# SPDX-License-Identifier: Apache-2.0
"""Make lobes with exits from the modules that a SpeechBrain recipe already has, with their weights.

The new lobes *share* the recipe's modules: training them trains the recipe's modules, and decoders of the recipe that
use these modules continue to work. Before a lobe is returned, a copy that is built from its ``config`` with the same
weights is compared with the stock modules on noise, so a saved model gives what the recipe's modules give.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoderLayer
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from speechbrain.nnet.linear import Linear
from speechbrain.processing.features import InputNormalization
from torch import nn

from speechbrain_ee.lobes.conformer import ConformerExitEncoder, MaskedConvolutionModule, TransformerExitEncoder
from speechbrain_ee.lobes.features import LogMel
from speechbrain_ee.lobes.heads import CTCHeads
from speechbrain_ee.lobes.joint_heads import JointHeads
from speechbrain_ee.lobes.state_dicts import load_strict
from speechbrain_ee.lobes.stock_checks import check_class, check_linear, compare, evaluation, noise
from speechbrain_ee.lobes.stock_settings import decoder_settings, encoder_settings, fbank_settings


def exit_encoder(
    cnn: ConvolutionFrontEnd, transformer: TransformerASR, exit_layers: Sequence[int]
) -> ConformerExitEncoder | TransformerExitEncoder:
    """Put exits on the encoder of a SpeechBrain recipe; its last exit equals the stock encoder.

    Arguments
    ---------
    cnn : ConvolutionFrontEnd
        The recipe's ``CNN``: blocks of one 3 x 3 convolution with stride 2.
    transformer : TransformerASR
        The recipe's ``Transformer``, with a Conformer or Transformer encoder; its decoder, if any, is not used.
    exit_layers : Sequence[int]
        See :func:`~speechbrain_ee.lobes.encoder.check_exit_layers`.

    Returns
    -------
    ConformerExitEncoder | TransformerExitEncoder
        Shares the recipe's modules. Its Conformer layers mask padding before the depthwise convolution, also when the
        recipe runs them.

    Raises
    ------
    ValueError
        If a module is of another class or has a setting that the encoders of this package do not have; the message
        names it.

    Example
    -------
    >>> cnn = ConvolutionFrontEnd(
    ...     (8, 10, 80), 2, 1, out_channels=(8, 4), kernel_sizes=(3, 3), strides=(2, 2), residuals=(False, False)
    ... )
    >>> transformer = TransformerASR(
    ...     9, 80, 16, 2, 4, 0, 32, attention_type="RelPosMHAXL", normalize_before=True, encoder_module="conformer",
    ...     causal=False,
    ... )
    >>> encoder = exit_encoder(cnn, transformer, [2, 4]).eval()
    >>> feats = torch.randn(1, 101, 80)
    >>> states, lengths = encoder(feats, torch.tensor([101]))
    >>> stock = transformer.eval().encode(cnn.eval()(feats))
    >>> lengths.tolist(), torch.allclose(states[-1], stock, atol=1e-5)
    ([26], True)
    """
    check_class("cnn", cnn, ConvolutionFrontEnd)
    check_class("transformer", transformer, TransformerASR)
    settings = encoder_settings(cnn, transformer) | {"exit_layers": list(exit_layers)}
    is_conformer = isinstance(transformer.encoder.layers[0], ConformerEncoderLayer)
    cls = ConformerExitEncoder if is_conformer else TransformerExitEncoder
    encoder = cls(**settings).to(next(cnn.parameters()).device)
    shared = ["encoder", "custom_src_module"]
    shared += [] if settings["attention_type"] == "RoPEMHA" else ["positional_encoding"]
    for stock, ours in [(cnn, encoder.frontend.blocks)] + [
        (getattr(transformer, name), getattr(encoder.transformer, name)) for name in shared
    ]:
        load_strict(ours, stock.state_dict(), what=f"the recipe's {type(stock).__name__}")
    _check_encoder(encoder, cnn, transformer)

    encoder.frontend.blocks = cnn
    for name in shared:
        setattr(encoder.transformer, name, getattr(transformer, name))
    for layer in encoder.layers if is_conformer else ():
        if not isinstance(layer.convolution_module, MaskedConvolutionModule):
            layer.convolution_module = MaskedConvolutionModule.from_stock(layer.convolution_module)
    return encoder


def exit_heads(
    encoder: ConformerExitEncoder | TransformerExitEncoder,
    ctc_lin: Linear,
    transformer: TransformerASR | None = None,
    seq_lin: Linear | None = None,
    *,
    decoders_at: Sequence[int] | None = None,
    decoders_per_batch: int | None = None,
) -> CTCHeads:
    """Make the heads of an encoder from the output layers of a SpeechBrain recipe.

    The head of the last exit is the recipe's CTC layer itself; the others begin with its weights. With ``transformer``
    and ``seq_lin``, the recipe's attention decoder becomes the shared decoder of the exits.

    Arguments
    ---------
    encoder : ConformerExitEncoder | TransformerExitEncoder
        The encoder of :func:`exit_encoder`.
    ctc_lin : Linear
        The recipe's linear layer for CTC.
    transformer : TransformerASR | None
        The recipe's ``Transformer``, if its decoder is used.
    seq_lin : Linear | None
        The recipe's output layer of the decoder.
    decoders_at, decoders_per_batch
        See :class:`~speechbrain_ee.lobes.joint_heads.JointHeads`.

    Returns
    -------
    CTCHeads
        :class:`~speechbrain_ee.lobes.joint_heads.JointHeads` with a decoder, else
        :class:`~speechbrain_ee.lobes.heads.CTCHeads`.

    Raises
    ------
    ValueError
        If a layer is of another class or has another size or setting; the message names it.

    Example
    -------
    >>> encoder = TransformerExitEncoder(n_mels=8, num_layers=4, exit_layers=[2, 4], d_model=8, nhead=2, d_ffn=8)
    >>> ctc_lin = Linear(n_neurons=31, input_size=8)
    >>> heads = exit_heads(encoder, ctc_lin)
    >>> heads.num_exits, heads.heads[-1][-1] is ctc_lin.w
    (2, True)
    """
    vocab_size = check_linear("ctc_lin", ctc_lin, encoder.d_model)
    if (transformer is None) != (seq_lin is None):
        raise ValueError("the decoder needs transformer and seq_lin: give both, or neither for CTC alone")
    sizes = {"d_model": encoder.d_model, "vocab_size": vocab_size}
    if transformer is None:
        if decoders_at is not None or decoders_per_batch is not None:
            raise ValueError("decoders_at and decoders_per_batch need a decoder: give transformer and seq_lin")
        heads = CTCHeads(num_exits=len(encoder.exit_layers), **sizes)
    else:
        check_class("transformer", transformer, TransformerASR)
        outputs = check_linear("seq_lin", seq_lin, encoder.d_model)
        if outputs != vocab_size:
            raise ValueError(f"ctc_lin has {vocab_size} outputs and seq_lin {outputs}: they must have the same tokens")
        places = {"decoders_at": decoders_at, "decoders_per_batch": decoders_per_batch}
        heads = JointHeads(exit_layers=list(encoder.exit_layers), **sizes, **places, **decoder_settings(transformer))
    heads.to(ctc_lin.w.weight.device)
    for head in heads.heads:
        head[-1].load_state_dict(ctc_lin.w.state_dict())
    heads.heads[-1][-1] = ctc_lin.w
    if transformer is not None:
        _share_decoder(heads.decoders[0], transformer, seq_lin)
    return heads


def log_mel(fbank: Fbank, normalizer: InputNormalization | None = None) -> LogMel:
    """Make features from those of a SpeechBrain recipe, equal bit for bit.

    Arguments
    ---------
    fbank : Fbank
        The recipe's ``compute_features``.
    normalizer : InputNormalization | None
        The recipe's ``normalize``, with ``norm_type: global``, after training; None means no normalisation.

    Returns
    -------
    LogMel
        A copy; later changes of the statistics are not followed.

    Raises
    ------
    ValueError
        If a setting cannot be expressed, or the normaliser has no statistics yet; the message names it.

    Example
    -------
    >>> fbank, normalizer = Fbank(n_mels=80, n_fft=512), InputNormalization()
    >>> wavs = torch.randn(1, 16000)
    >>> feats = normalizer(fbank(wavs))
    >>> found, _ = log_mel(fbank, normalizer)(wavs, torch.tensor([16000]))
    >>> torch.equal(found, normalizer.eval()(fbank(wavs)))
    True
    """
    check_class("fbank", fbank, Fbank)
    features = LogMel(**fbank_settings(fbank))
    if normalizer is not None:
        check_class("normalizer", normalizer, InputNormalization)
        if normalizer.norm_type != "global":
            raise ValueError(
                f"the normaliser has norm_type {normalizer.norm_type!r}: only global statistics can be saved, train "
                "with norm_type: global"
            )
        if normalizer.count == 0:
            raise ValueError("the normaliser has no statistics yet: train first, or load the recipe's checkpoint")
        features.mean.copy_(normalizer.glob_mean)
        if normalizer.std_norm:
            features.std.copy_(normalizer.glob_std.clamp(min=normalizer.epsilon))
    wavs = noise(1, features.sample_rate // 4)
    with torch.no_grad():
        expected = (fbank(wavs) - features.mean) / features.std
        found, _ = features(wavs, torch.tensor([wavs.shape[1]]))
    if found.shape != expected.shape or not torch.equal(found, expected):
        raise ValueError(f"these features differ from {features.config}: a setting of Fbank has no equal in LogMel")
    return features


def _share_decoder(decoder: nn.Module, transformer: TransformerASR, seq_lin: Linear) -> None:
    """Let a decoder use the layers of the recipe, after comparing both on noise."""
    embedding = transformer.custom_tgt_module.layers[0]
    own_positions = hasattr(transformer, "positional_encoding_decoder")
    positions = transformer.positional_encoding_decoder if own_positions else transformer.positional_encoding
    stock = {"embedding": embedding, "positions": positions, "transformer": transformer.decoder, "output": seq_lin.w}
    for name, module in stock.items():
        load_strict(getattr(decoder, name), module.state_dict(), what=f"the recipe's decoder ({name})")
    device = seq_lin.w.weight.device
    tokens, states = torch.tensor([[1, 4, 3, 2]], device=device), noise(1, 9, seq_lin.w.in_features).to(device)
    tokens = tokens.clamp(max=seq_lin.w.out_features - 1)
    with evaluation(decoder, transformer, seq_lin):
        found = decoder(tokens, states, torch.tensor([9], device=device))
        expected = seq_lin(transformer.decode(tokens, states)[0]).log_softmax(-1)
    compare("decoder", found, expected)
    for name, module in stock.items():
        setattr(decoder, name, module)


def _check_encoder(encoder: TransformerExitEncoder, cnn: nn.Module, transformer: TransformerASR) -> None:
    device = next(cnn.parameters()).device
    feats = noise(1, 61, encoder.frame_size).to(device)
    with evaluation(encoder, cnn, transformer):
        states, _ = encoder(feats, torch.tensor([61], device=device))
        expected = transformer.encode(cnn(feats))
    compare("encoder", states[-1], expected[0] if isinstance(expected, tuple) else expected)
