# SPDX-License-Identifier: Apache-2.0
"""Encoders of the transformers library: strict loading of weights, and a configuration that is saved."""

import json
import sys
import warnings

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from unit.models import BASE, D_MODEL, FAMILIES, N_MELS, make_batch, make_encoder

from speechbrain_ee.lobes import Wav2Vec2ExitEncoder, Waveform, WhisperExitEncoder, WhisperLogMel
from speechbrain_ee.lobes.pretrained.sources import pretrained_source
from speechbrain_ee.model.folder import ModelError, build_lobe, to_config

PRETRAINED = [family for family, (_, arguments) in FAMILIES.items() if "backbone" in arguments]
EXITS = {"num_layers": 4, "exit_layers": [1, 2, 4]}


def make_source(folder, family, **extractor):
    """Write a model folder in the format of the Hub: configuration, weights, feature extractor."""
    encoder = make_encoder(family)
    if family == "whisper":
        decoder = {"decoder_layers": 1, "decoder_ffn_dim": 8, "decoder_attention_heads": 1, "vocab_size": 9}
        decoder |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        model = transformers.WhisperModel(transformers.WhisperConfig(**encoder.config["backbone"] | decoder))
        model.encoder.load_state_dict(encoder.backbone.state_dict())
        options = {"feature_size": N_MELS} | extractor
        transformers.WhisperFeatureExtractor(**options).save_pretrained(folder)
    else:
        model = encoder.backbone
        transformers.Wav2Vec2FeatureExtractor(**{"do_normalize": True} | extractor).save_pretrained(folder)
    model.save_pretrained(folder)
    return encoder, str(folder)


def change_config(folder, changes, file="config.json"):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def from_source(family, source, **arguments):
    cls, _ = FAMILIES[family]
    return cls(source=source, **EXITS | arguments).eval()


@pytest.mark.parametrize("family", PRETRAINED)
@torch.no_grad()
def test_law_2_last_exit_is_what_the_speechbrain_lobe_gives(tmp_path, family):
    _, source = make_source(tmp_path / "source", family)
    encoder = from_source(family, source)
    wav = torch.randn(1, 480000 if family == "whisper" else 8000) * 3
    features = WhisperLogMel(n_mels=N_MELS, source=source) if family == "whisper" else Waveform(source=source)
    states, _ = encoder(*features(wav, torch.tensor([wav.shape[1]])))
    lobe = encoder.stock_lobe()(source, str(tmp_path / "cache"), **encoder.lobe_options).eval()
    # the features are normalised by sums in another order
    torch.testing.assert_close(states[-1], lobe(wav), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", PRETRAINED)
def test_weights_come_from_the_source_and_layers_above_the_last_exit_do_not(tmp_path, family):
    given, source = make_source(tmp_path, family)
    encoder = from_source(family, source, num_layers=2, exit_layers=[2])
    taken = encoder.state_dict()
    expected = {name: value for name, value in given.state_dict().items() if name in taken}
    assert taken.keys() == expected.keys()
    assert all(torch.equal(taken[name], value) for name, value in expected.items())
    assert len(encoder.layers) == 2


@pytest.mark.parametrize("family", PRETRAINED)
def test_description_rebuilds_it_without_the_source(tmp_path, family):
    _, source = make_source(tmp_path, family)
    encoder = from_source(family, source)
    description = json.loads(json.dumps(to_config({"encoder": encoder})["encoder"]))
    assert "source" not in description
    again = build_lobe("encoder", description).eval()
    again.load_state_dict(encoder.state_dict())
    feats = torch.randn(1, 4000 if encoder.frame_size == 1 else 30, encoder.frame_size)
    lengths = torch.tensor([feats.shape[1]])
    for one, other in zip(encoder(feats, lengths)[0], again(feats, lengths)[0], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("family", PRETRAINED)
def test_no_layer_is_dropped_in_training(tmp_path, family):
    _, source = make_source(tmp_path, family)
    change_config(tmp_path, {"encoder_layerdrop" if family == "whisper" else "layerdrop": 1.0})
    encoder = from_source(family, source).train()
    feats = torch.randn(1, 4000 if encoder.frame_size == 1 else 30, encoder.frame_size)
    states, _ = encoder(feats, torch.tensor([feats.shape[1]]))
    assert all((a - b).abs().mean() > 0.1 for a, b in zip(states, states[1:], strict=False))


def test_a_shorter_waveform_than_a_frame_gives_one_frame():
    encoder = make_encoder("wav2vec2")
    states, lengths = encoder(torch.randn(2, 399, 1), torch.tensor([399, 1]))
    assert lengths.tolist() == [1, 1]
    assert states[-1].shape == (2, 1, D_MODEL)


def test_wavlm_shares_the_bias_of_its_first_layer():
    encoder = make_encoder("wavlm")
    biases = [name for name, _ in encoder.named_parameters() if "rel_attn_embed" in name]
    assert biases == ["backbone.encoder.layers.0.attention.rel_attn_embed.weight"]
    state = encoder.start(torch.randn(2, 8000, 1), torch.tensor([8000, 8000]))
    kept = encoder.keep(state, torch.tensor([1]))
    assert torch.equal(kept.pos_embs, state.pos_embs[2:])


def test_whisper_refuses_more_than_its_positions():
    encoder = make_encoder("whisper")
    assert encoder.max_output_frames == 1500
    with pytest.raises(ValueError, match="1501 encoder frames are more than the 1500"):
        encoder.start(torch.randn(1, 3001, N_MELS), torch.tensor([3001]))


def one_line(raised):
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_weights_of_another_architecture_are_refused(tmp_path):
    _, source = make_source(tmp_path, "whisper")
    with pytest.raises(ValueError, match=r"is of type 'whisper', but Wav2Vec2ExitEncoder takes 'wav2vec2'") as raised:
        from_source("wav2vec2", source)
    one_line(raised)


@pytest.mark.parametrize(("change", "message"), [("lack", "weights lack"), ("shape", "(another shape|cannot load)")])
@pytest.mark.parametrize("family", ["wav2vec2", "whisper"])
def test_weights_that_do_not_fit_are_refused(tmp_path, family, change, message):
    _, source = make_source(tmp_path, family)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in sorted(weights) if "encoder.layers.1" in name and name.endswith("v_proj.weight"))
    if change == "lack":
        del weights[name]
    else:
        weights[name] = torch.zeros(3, 3)
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message) as raised:
        from_source(family, source)
    one_line(raised)


def test_folder_without_weights_or_without_anything_is_refused(tmp_path):
    _, source = make_source(tmp_path, "wav2vec2")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="has no weights: give a folder with model.safetensors") as raised:
        from_source("wav2vec2", source)
    one_line(raised)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        from_source("wav2vec2", source)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"has no config.json, which describes the encoder's configuration"):
        from_source("wav2vec2", source)


def test_a_mistyped_folder_is_said_to_be_none(tmp_path):
    with pytest.raises(ValueError, match="is not a folder, and its config.json") as raised:
        from_source("wav2vec2", str(tmp_path / "nothing"))
    one_line(raised)


def test_more_layers_than_the_source_has_are_refused(tmp_path):
    _, source = make_source(tmp_path, "wav2vec2")
    with pytest.raises(ValueError, match=r"num_layers=5, but .* has 4 layers: give 1 to 4"):
        from_source("wav2vec2", source, num_layers=5, exit_layers=[5])


@pytest.mark.parametrize("content", [b"no weights", b""])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_broken_weights_are_one_line(tmp_path, name, content):
    _, source = make_source(tmp_path, "wav2vec2")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="cannot load the weights of a wav2vec2") as raised:
        from_source("wav2vec2", source)
    one_line(raised)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "abc"}, "(invalid settings of wav2vec2|cannot load the weights of a wav2vec2)"),
        ({"num_hidden_layers": None}, "num_hidden_layers is None in its config.json"),
        ({"add_adapter": True}, "has add_adapter set, which is not supported with exits"),
        ({"hidden_act": "evil"}, "cannot load the weights of a wav2vec2"),
    ],
)
def test_a_shape_that_cannot_be_is_one_line(tmp_path, changes, message):
    _, source = make_source(tmp_path, "wav2vec2")
    change_config(tmp_path, changes)
    with pytest.raises(ValueError, match=message) as raised:
        from_source("wav2vec2", source)
    one_line(raised)


@pytest.mark.parametrize("family", PRETRAINED)
@torch.no_grad()
def test_padding_stays_masked_where_the_source_asks_for_eager_attention(tmp_path, family):
    _, source = make_source(tmp_path, family)
    plain = from_source(family, source)
    change_config(tmp_path, {"attn_implementation": "eager", "_attn_implementation": "eager"})
    encoder = from_source(family, source)
    feats = torch.randn(2, 8000 if family != "whisper" else 120, encoder.frame_size)
    lengths = torch.tensor([feats.shape[1], feats.shape[1] // 2])
    for ours, theirs in zip(encoder(feats, lengths)[0], plain(feats, lengths)[0], strict=True):
        assert torch.equal(ours, theirs)


def test_whisper_positions_are_not_trained(tmp_path):
    _, source = make_source(tmp_path, "whisper")
    encoder = from_source("whisper", source)
    assert [n for n, one in encoder.named_parameters() if not one.requires_grad] == ["backbone.embed_positions.weight"]


def test_unknown_and_private_settings_are_refused():
    for name in ("hidden_sizes", "_attn_implementation", "attn_implementation", "quantization_config", "add_adapter"):
        with pytest.raises(ValueError, match=f"backbone has {name}: settings of wav2vec2 are hidden_size"):
            Wav2Vec2ExitEncoder(**EXITS, backbone=BASE | {name: "x"})


@pytest.mark.parametrize("part", ["features", "encoder"])
def test_a_stranger_config_is_not_followed_to_a_source(part, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("looked online"))
    description = {
        "features": {"class": "Waveform", "source": "evil/repo"},
        "encoder": {"class": "Wav2Vec2ExitEncoder", **EXITS, "source": "evil/repo"},
    }[part]
    with pytest.raises(ModelError, match=f"config.json names a source for '{part}'"):
        build_lobe(part, description)


def test_a_stranger_settings_that_cannot_be_built_are_one_line():
    description = {"class": "Wav2Vec2ExitEncoder", **EXITS, "backbone": BASE | {"num_attention_heads": 3}}
    with pytest.raises(ModelError, match="encoder cannot be built") as raised:
        build_lobe("encoder", description)
    one_line(raised)


def test_absent_transformers_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'speechbrain_ee\[ssl\]'") as raised:
        WhisperExitEncoder(**EXITS)
    one_line(raised)


@pytest.mark.parametrize(
    ("family", "extractor", "message"),
    [
        (
            "wav2vec2",
            {},
            "was trained on features of Wav2Vec2FeatureExtractor, but these are of WhisperFeatureExtractor",
        ),
        ("whisper", {"feature_size": 24}, "features with feature_size=24, but these have 20: set this n_mels"),
    ],
)
def test_a_feature_extractor_that_does_not_fit_is_refused(tmp_path, family, extractor, message):
    _, source = make_source(tmp_path, family, **extractor)
    with pytest.raises(ValueError, match=message) as raised:
        WhisperLogMel(n_mels=N_MELS, source=source)
    one_line(raised)


def test_waveform_takes_the_rate_and_the_normalisation_of_its_source(tmp_path):
    _, source = make_source(tmp_path, "wav2vec2", do_normalize=False)
    assert not Waveform(source=source).config["normalize"]
    assert Waveform(source=source, normalize=True).normalize
    with pytest.raises(ValueError, match="sampling_rate=16000, but these have 8000"):
        Waveform(source=source, sample_rate=8000)
    with pytest.raises(ValueError, match="normalize is neither given nor stated by a source"):
        Waveform()


@pytest.mark.parametrize("family", ["wav2vec2", "whisper"])
def test_older_and_newer_folders_say_it_elsewhere(tmp_path, family):
    _, source = make_source(tmp_path, family)
    features = (
        (lambda: WhisperLogMel(n_mels=N_MELS, source=source))
        if family == "whisper"
        else lambda: Waveform(source=source)
    )
    older = tmp_path / "preprocessor_config.json"
    said = json.loads(older.read_text("utf-8"))
    del said["feature_extractor_type"]  # the model's type implies it
    older.write_text(json.dumps(said), "utf-8")
    features()
    older.unlink()
    with pytest.raises(ValueError, match="has no preprocessor_config.json"):
        features()
    (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": said}), "utf-8")
    features()


@pytest.mark.parametrize("normalize", ["no", 1])
def test_what_is_neither_true_nor_false_is_refused(normalize):
    with pytest.raises(ValueError, match="give True or False"):
        Waveform(normalize=normalize)


def test_an_empty_source_is_refused():
    with pytest.raises(ValueError, match="the source is empty"):
        from_source("wav2vec2", "")


def test_a_warning_of_torch_is_kept_away_from_wavlm_alone():
    encoder = make_encoder("wavlm")
    feats, lengths = make_batch("wavlm", (30, 20))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        with torch.no_grad():
            encoder(feats, lengths)
        assert warnings.filters == filters
        assert not [one for one in caught if "mismatched" in str(one.message)]
        warnings.warn("Support for mismatched key_padding_mask and attn_mask", UserWarning, stacklevel=1)
    assert len([one for one in caught if "mismatched" in str(one.message)]) == 1, "others still hear of it"


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_pointer_of_git_lfs_in_a_pretrained_folder_is_named(tmp_path, name):
    folder = pretrained_source(source=None, family="wav2vec2", folder=str(tmp_path / "tiny"))
    (tmp_path / "tiny" / name).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=f"{name} is a pointer of Git LFS"):
        Waveform(source=folder)
        Wav2Vec2ExitEncoder(num_layers=2, exit_layers=[2], source=folder)
