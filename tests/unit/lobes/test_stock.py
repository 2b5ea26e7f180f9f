# SPDX-License-Identifier: Apache-2.0
"""Lobes made of a SpeechBrain recipe's modules give what these modules give, and share them."""

from functools import partial

import pytest
import torch
from speechbrain.lobes.features import MFCC, Fbank
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from speechbrain.nnet.CNN import Conv2d
from speechbrain.nnet.linear import Linear
from speechbrain.processing.features import InputNormalization

from speechbrain_ee.lobes import CTCHeads, JointHeads
from speechbrain_ee.lobes.stock import exit_encoder, exit_heads, log_mel
from speechbrain_ee.model.folder import build_lobe, to_config

N_MELS, D_MODEL, VOCAB = 20, 16, 12
ATTENTION = ["regularMHA", "RelPosMHAXL", "RoPEMHA"]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}  # the same layers; attention without maps runs another kernel


def make_cnn(**changes):
    arguments = {
        "num_blocks": 2,
        "num_layers_per_block": 1,
        "out_channels": (6, 4),
        "kernel_sizes": (3, 3),
        "strides": (2, 2),
        "residuals": (False, False),
    }
    return ConvolutionFrontEnd((8, 10, N_MELS), **arguments | changes)


def make_transformer(module="conformer", attention="RelPosMHAXL", **changes):
    arguments = {
        "tgt_vocab": VOCAB,
        "input_size": 20,
        "d_model": D_MODEL,
        "nhead": 2,
        "num_encoder_layers": 3,
        "num_decoder_layers": 0,
        "d_ffn": 24,
        "dropout": 0.2,
        "activation": torch.nn.GELU,
        "encoder_module": module,
        "attention_type": attention,
        "normalize_before": True,
        "causal": False,
    }
    return TransformerASR(**arguments | changes)


@pytest.fixture
def stock():
    return make_cnn(), make_transformer(num_decoder_layers=2)


@pytest.mark.parametrize("module", ["conformer", "transformer"])
@pytest.mark.parametrize("attention", ATTENTION)
@torch.no_grad()
def test_the_last_exit_equals_the_stock_encoder_and_so_does_a_model_rebuilt_from_its_config(module, attention):
    cnn, transformer = make_cnn().eval(), make_transformer(module, attention).eval()
    feats = torch.randn(1, 45, N_MELS)
    expected = transformer.encode(cnn(feats))
    encoder = exit_encoder(cnn, transformer, [1, 3]).eval()
    rebuilt = build_lobe("encoder", to_config({"encoder": encoder})["encoder"]).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    for one in (encoder, rebuilt):
        states, lengths = one(feats, torch.tensor([45]))
        assert lengths.tolist() == [12] and len(states) == 2
        torch.testing.assert_close(states[-1], expected, **CLOSE)
    torch.testing.assert_close(transformer.encode(cnn(feats)), expected, **CLOSE)  # the recipe's modules still work


def test_conversion_keeps_the_training_mode_and_shares_the_weights(stock):
    cnn, transformer = stock
    transformer.eval()
    encoder = exit_encoder(cnn, transformer, [3])
    assert cnn.training and not transformer.encoder.layers[0].training
    shared = {id(parameter) for parameter in [*cnn.parameters(), *transformer.parameters()]}
    assert {id(parameter) for parameter in encoder.parameters()} <= shared


def test_a_front_end_that_pads_with_zeros_keeps_doing_so():
    cnn = make_cnn(conv_module=partial(Conv2d, padding_mode="constant"))
    assert exit_encoder(cnn, make_transformer(), [3]).config["padding_mode"] == "constant"


@pytest.mark.parametrize(
    ("of_cnn", "of_transformer", "message"),
    [
        ({"strides": (2, 1)}, {"input_size": 40}, r"strides is \(1, 1\): only \(2, 2\) can be used"),
        ({"kernel_sizes": (5, 3)}, {}, r"kernel_sizes is \(5, 5\): only \(3, 3\)"),
        ({"residuals": (True, False)}, {}, "residuals is True: only False"),
        ({"num_layers_per_block": 2}, {}, "num_layers_per_block is 2: only 1"),
        ({"activation": torch.nn.GELU}, {}, "activation of the front-end is GELU: only LeakyReLU"),
        ({}, {"causal": True}, "causal is True: only False"),
        ({}, {"layerdrop_prob": 0.1}, "layerdrop_prob is 0.1: only 0.0"),
        ({}, {"attention_type": "hypermixing"}, "attention_type is hypermixing: only regularMHA or RelPosMHAXL"),
        ({}, {"encoder_module": "branchformer"}, "encoder_module is a BranchformerEncoder: only conformer and"),
        ({}, {"encoder_module": "transformer", "activation": torch.nn.SiLU}, "activation is SiLU: only ReLU or GELU"),
        ({}, {"encoder_module": "transformer", "normalize_before": False}, "normalize_before is False: only True"),
        ({}, {"bias": False}, "the recipe's ConformerEncoder lacks layers.0.convolution_module.bottleneck.0.bias"),
        ({}, {"conformer_activation": torch.nn.ReLU}, "gives other values .* such as an activation, has no equal"),
    ],
)
def test_what_an_encoder_with_exits_lacks_is_named(of_cnn, of_transformer, message):
    with pytest.raises(ValueError, match=message):
        exit_encoder(make_cnn(**of_cnn), make_transformer(**of_transformer), [1, 3])


def test_modules_of_other_classes_are_named(stock):
    with pytest.raises(ValueError, match="cnn is a Linear: give the recipe's speechbrain.lobes.models.convolution."):
        exit_encoder(torch.nn.Linear(2, 2), stock[1], [3])
    with pytest.raises(ValueError, match="exit_layers .* do not end at the full encoder"):
        exit_encoder(*stock, [1, 2])


def test_the_head_of_the_last_exit_is_the_recipes_layer(stock):
    ctc_lin = Linear(n_neurons=VOCAB, input_size=D_MODEL)
    heads = exit_heads(exit_encoder(*stock, [1, 3]), ctc_lin)
    assert type(heads) is CTCHeads
    state = torch.randn(1, 5, D_MODEL)
    for index in range(2):
        found = heads.head(index, state, torch.tensor([5])).log_probs
        torch.testing.assert_close(found, ctc_lin(state).log_softmax(-1))
    ctc_lin.w.bias.data += torch.arange(VOCAB)
    found = [heads.head(index, state, torch.tensor([5])).log_probs for index in range(2)]
    assert not torch.allclose(*found)


@pytest.mark.parametrize("attention", ATTENTION)
@torch.no_grad()
def test_the_recipes_decoder_becomes_that_of_the_exits(attention):
    cnn, transformer = make_cnn(), make_transformer(attention=attention, num_decoder_layers=2)
    ctc_lin, seq_lin = (Linear(n_neurons=VOCAB, input_size=D_MODEL) for _ in range(2))
    heads = exit_heads(exit_encoder(cnn, transformer, [1, 3]), ctc_lin, transformer, seq_lin).eval()
    assert type(heads) is JointHeads and heads.config["decoder_dropout"] == 0.2
    states, tokens = [torch.randn(2, 7, D_MODEL) for _ in range(2)], torch.randint(3, VOCAB, (2, 4))
    outputs = heads(states, torch.tensor([7, 5]), tokens)
    transformer.eval()
    inputs = torch.nn.functional.pad(tokens, (1, 0), value=1)
    for state, output in zip(states, outputs, strict=True):
        prediction, _ = transformer.decode(inputs, state, torch.tensor([7, 5]))
        torch.testing.assert_close(output.attention_log_probs, seq_lin(prediction).log_softmax(-1), **CLOSE)
    shared = {id(parameter) for one in (transformer, ctc_lin, seq_lin) for parameter in one.parameters()}
    assert {id(parameter) for parameter in heads.decoders.parameters()} <= shared


@pytest.mark.parametrize(
    ("ctc", "seq", "decoder", "message"),
    [
        ({"input_size": 8}, {}, {}, "ctc_lin takes 8 values and has a bias: it must take the 16"),
        ({"bias": False}, {}, {}, "ctc_lin takes 16 values and has no bias"),
        ({}, {"n_neurons": 9}, {}, "ctc_lin has 12 outputs and seq_lin 9: they must have the same tokens"),
        ({}, {}, {"num_decoder_layers": 0}, "num_decoder_layers is 0: leave out transformer and seq_lin"),
        ({}, {}, {"activation": torch.nn.ReLU}, "activation of the decoder is ReLU: only GELU"),
    ],
)
def test_what_heads_lack_is_named(stock, ctc, seq, decoder, message):
    ctc_lin, seq_lin = (Linear(**{"n_neurons": VOCAB, "input_size": D_MODEL} | one) for one in (ctc, seq))
    with pytest.raises(ValueError, match=message):
        transformer = make_transformer(**{"num_decoder_layers": 1} | decoder)
        exit_heads(exit_encoder(*stock, [1, 3]), ctc_lin, transformer, seq_lin)


def test_half_a_decoder_is_refused(stock):
    encoder, ctc_lin = exit_encoder(*stock, [3]), Linear(n_neurons=VOCAB, input_size=D_MODEL)
    with pytest.raises(ValueError, match="give both, or neither"):
        exit_heads(encoder, ctc_lin, stock[1])
    with pytest.raises(ValueError, match="decoders_at and decoders_per_batch need a decoder"):
        exit_heads(encoder, ctc_lin, decoders_at=[3])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_fft": 512, "n_mels": 80},
        {"n_fft": 512, "win_length": 32},
        {"sample_rate": 8000, "n_fft": 256, "f_max": 3800, "hop_length": 12.5},
    ],
)
@torch.no_grad()
def test_features_equal_those_of_the_recipe_bit_for_bit(settings):
    fbank, normalizer = Fbank(**settings), InputNormalization()
    wavs = torch.randn(2, 9000)
    for epoch in range(2):
        normalizer(fbank(wavs * (epoch + 1)), torch.tensor([1.0, 0.7]), epoch=epoch)
    features = log_mel(fbank, normalizer.eval())
    found, num_frames = features(wavs, torch.tensor([9000, 9000]))
    assert torch.equal(found, normalizer(fbank(wavs), torch.ones(2)))
    assert num_frames.tolist() == [found.shape[1]] * 2
    assert features.config["win_length_ms"] == settings.get("win_length", 25)


def test_without_std_norm_only_the_mean_is_subtracted():
    fbank, normalizer = Fbank(), InputNormalization(std_norm=False)
    normalizer(fbank(torch.randn(1, 9000)))
    assert torch.equal(log_mel(fbank, normalizer).std, torch.ones(40))


@pytest.mark.parametrize(
    ("features", "normalizer", "message"),
    [
        (Fbank(deltas=True), None, "deltas is True: only False"),
        (Fbank(f_min=50), None, "f_min is 50: only 0"),
        (Fbank(filter_shape="gaussian"), None, "filter_shape is gaussian: only triangular"),
        (Fbank(requires_grad=True), None, "requires_grad is True: only False"),
        (MFCC(), None, "fbank is a MFCC: give the recipe's speechbrain.lobes.features.Fbank"),
        (
            Fbank(),
            InputNormalization(norm_type="sentence"),
            "norm_type 'sentence': only global statistics",
        ),
        (Fbank(), InputNormalization(), "no statistics yet: train first, or load the recipe's checkpoint"),
    ],
)
def test_features_that_cannot_be_saved_are_named(features, normalizer, message):
    with pytest.raises(ValueError, match=message):
        log_mel(features, normalizer)


def test_a_changed_filterbank_is_noticed():
    fbank = Fbank()
    fbank.compute_fbanks.top_db = 20.0
    with pytest.raises(ValueError, match="these features differ from .*: a setting of Fbank has no equal in LogMel"):
        log_mel(fbank)
