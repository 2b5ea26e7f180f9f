# SPDX-License-Identifier: Apache-2.0
"""One exit as a stock SpeechBrain model: SpeechBrain's own classes give the same texts."""

import re

import pytest
import soundfile
import torch
from speechbrain.inference import ASR
from speechbrain.utils.fetching import LocalStrategy
from torch import nn
from unit.models import make_encoder, make_features, make_heads, make_heads_of, make_tokenizer

from ee_runtime.policies import FixedExit
from ee_runtime.special_tokens import SPECIAL_TOKENS
from speechbrain_ee.hub.stock import STOCK_FILES, NotStock, check_equal, write_stock
from speechbrain_ee.inference.asr import EarlyExitASR

EXIT_LAYERS = (1, 2, 4)


def make_modules(family, tokenizer, heads=None, **options):
    encoder = make_encoder(family, exit_layers=EXIT_LAYERS, **options)
    heads = heads or make_heads_of(family, EXIT_LAYERS, tokenizer.vocab_size)
    features = make_features(family)
    if family != "whisper" and hasattr(features, "mean"):
        features.mean.normal_(-10, 3)
        features.std.uniform_(5, 15)
    silent = [*SPECIAL_TOKENS, tokenizer.vocab_list.index("▁")]
    for layer in [head[-1] for head in heads.heads] + [one.output for one in getattr(heads, "decoders", [])]:
        layer.weight.data.mul_(4)  # many different letters
        layer.bias.data[silent] = -60.0
    return nn.ModuleDict({"features": features, "encoder": encoder, "heads": heads})


def write_wavs(folder, seconds=(0.3, 1.0, 1.7)):
    generator = torch.Generator().manual_seed(0)
    paths = []
    for number, length in enumerate(seconds):
        waveform = torch.randn(int(16000 * length), generator=generator) / 10
        paths.append(folder / f"{number}.wav")
        soundfile.write(paths[-1], waveform.numpy(), 16000, subtype="FLOAT")
    return paths


def load_stock(interface, folder, savedir):
    return getattr(ASR, interface).from_hparams(folder, savedir=savedir, local_strategy=LocalStrategy.COPY)


@pytest.mark.parametrize("layer", EXIT_LAYERS)
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("conformer", {}),
        ("conformer_relpos", {"padding_mode": "reflect"}),
        ("conformer_rope", {}),
        ("transformer", {}),
        ("transformer", {"activation": "gelu", "padding_mode": "reflect"}),
        ("conformer_aed", {}),
        ("transformer_aed", {"activation": "gelu"}),
    ],
)
def test_speechbrains_own_class_gives_the_text_of_the_exit(tmp_path, monkeypatch, family, options, layer):
    # Stock decoding does not cut loops, which the texts of random attention decoders are.
    monkeypatch.setattr("ee_runtime.decoders.attention_search.loop_period", lambda tokens: None)
    monkeypatch.chdir(tmp_path)
    tokenizer = make_tokenizer(tmp_path)
    heads = make_heads_of(family, EXIT_LAYERS, tokenizer.vocab_size)
    modules = make_modules(family.replace("transformer_aed", "transformer"), tokenizer, heads, **options)
    interface = write_stock(tmp_path / "stock", modules, layer, tokenizer=tokenizer.path)
    assert interface == ("EncoderDecoderASR" if family.endswith("_aed") else "EncoderASR")
    assert {path.name for path in (tmp_path / "stock").iterdir()} == set(STOCK_FILES)
    stock = load_stock(interface, tmp_path / "stock", tmp_path / "savedir")
    ours = EarlyExitASR(modules=modules, hparams={"tokenizer": tokenizer}, policy=FixedExit(layer))
    texts = [ours.transcribe_file(path).text for path in write_wavs(tmp_path)]
    assert all(texts) and [stock.transcribe_file(str(path)) for path in write_wavs(tmp_path)] == texts


@pytest.mark.parametrize("kind", ["norm_linear", "mlp"])
@pytest.mark.parametrize("shared", [True, False])
def test_heads_with_several_layers_are_stock_layers(tmp_path, kind, shared):
    tokenizer = make_tokenizer(tmp_path)
    heads = make_heads(3, tokenizer.vocab_size, kind=kind, shared=shared, hidden_size=5 if kind == "mlp" else None)
    modules = make_modules("conformer", tokenizer, heads)
    write_stock(tmp_path / "stock", modules, 2, tokenizer=tokenizer.path)
    stock = load_stock("EncoderASR", tmp_path / "stock", tmp_path / "savedir")
    wavs = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    states, lengths = modules["encoder"](*modules["features"](wavs, torch.tensor([8000])))
    expected = modules["heads"].head(1, states[1], lengths).log_probs
    torch.testing.assert_close(stock.encode_batch(wavs, torch.ones(1)), expected, atol=1e-5, rtol=0)


def test_the_same_model_gives_the_same_bytes(tmp_path):
    tokenizer = make_tokenizer(tmp_path)
    for name in ("one", "other"):
        write_stock(tmp_path / name, make_modules("conformer", tokenizer), 4, tokenizer=tokenizer.path)
    for name in STOCK_FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("family", "heads", "said"),
    [
        ("wav2vec2", {}, "no stock class for the features Waveform"),
        ("whisper", {}, "no stock class for the features WhisperLogMel"),
        ("conformer", {"kind": "blstm"}, "no stock class for exit heads of kind blstm"),
    ],
)
def test_parts_without_a_stock_class_are_named(tmp_path, family, heads, said):
    tokenizer = make_tokenizer(tmp_path)
    modules = make_modules(family, tokenizer, make_heads(3, tokenizer.vocab_size, **heads))
    with pytest.raises(NotStock, match=re.escape(said)):
        write_stock(tmp_path / "stock", modules, 4, tokenizer=tokenizer.path)
    assert not (tmp_path / "stock").exists()


def test_two_activations_in_one_stock_class_are_refused(tmp_path):
    tokenizer = make_tokenizer(tmp_path)
    heads = make_heads_of("transformer_aed", EXIT_LAYERS, tokenizer.vocab_size)
    modules = make_modules("transformer", tokenizer, heads)
    with pytest.raises(NotStock, match="has one activation, and this model has relu and gelu in the decoder"):
        write_stock(tmp_path / "stock", modules, 4, tokenizer=tokenizer.path)


def test_a_layer_without_an_exit_is_refused(tmp_path):
    tokenizer = make_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=r"layer 3 is not an exit of the model: choose from \[1, 2, 4\]"):
        write_stock(tmp_path / "stock", make_modules("conformer", tokenizer), 3, tokenizer=tokenizer.path)


def test_stock_modules_that_compute_something_else_are_refused(tmp_path, monkeypatch):
    tokenizer = make_tokenizer(tmp_path)
    modules = make_modules("conformer", tokenizer)

    def check_other_weights(stock, *others):
        next(iter(stock["model"][2].values())).bias.data[0] += 1e-2
        check_equal(stock, *others)

    monkeypatch.setattr("speechbrain_ee.hub.stock.check_equal", check_other_weights)
    with pytest.raises(NotStock, match="differ by 0.0"):
        write_stock(tmp_path / "stock", modules, 4, tokenizer=tokenizer.path)
