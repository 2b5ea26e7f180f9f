# SPDX-License-Identifier: Apache-2.0
"""Law 9 for pretrained encoders and their features: as export forms in torch, and as graphs."""

import onnxruntime
import pytest
import torch
from unit.export.test_export import (
    test_an_utterance_longer_than_the_table_of_positions_is_refused,
    test_law_9_every_exit_gives_the_log_probabilities_and_scores_of_torch,
    test_limits_and_costs_are_those_of_torch,
    test_one_utterance_of_any_length_and_alone,
    test_the_runtime_writes_what_torch_writes,
    test_the_same_exits_wherever_the_score_is_not_at_the_threshold,
)
from unit.models import BASE, FAMILIES, LARGE, N_MELS, SHALLOW, make_asr, make_batch, make_encoder

from ee_runtime import EarlyExitRuntime, interfaces
from speechbrain_ee.export import write
from speechbrain_ee.export.export import export_model
from speechbrain_ee.export.features import features_form
from speechbrain_ee.export.forms import export_form
from speechbrain_ee.export.front_ends import front_end_form
from speechbrain_ee.export.graphs import SegmentForm
from speechbrain_ee.export.pretrained_forms import RowScaledLinear, scale_rows
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.lobes import Waveform, WhisperLogMel
from speechbrain_ee.lobes.features import Features
from speechbrain_ee.model.folder import save_model

# Run here with the models of this file's fixture.
__all__ = [
    "test_an_utterance_longer_than_the_table_of_positions_is_refused",
    "test_law_9_every_exit_gives_the_log_probabilities_and_scores_of_torch",
    "test_limits_and_costs_are_those_of_torch",
    "test_one_utterance_of_any_length_and_alone",
    "test_the_runtime_writes_what_torch_writes",
    "test_the_same_exits_wherever_the_score_is_not_at_the_threshold",
]
PRETRAINED = [family for family, (_, arguments) in FAMILIES.items() if "backbone" in arguments]
MODELS = {
    "whisper": {"exit_layers": (1, 3), "features": WhisperLogMel(n_mels=N_MELS, downsample=2, pad_s=0.05)},
}
ONE_INPUT = interfaces.Interface({"x": interfaces.STATE["x"]}, interfaces.SEGMENT.outputs)
NEEDS_TORCH = pytest.mark.skipif(torch.__version__ < "2.8", reason="export needs torch 2.8 or newer")
SAMPLES = [9000, 401, 16161, 37]  # an odd number of frames
FEATURES = {
    "waveform": Waveform(normalize=True),
    "waveform_as_it_is": Waveform(normalize=False),
    "waveform_downsampled": Waveform(normalize=True, downsample=2),
    "whisper": WhisperLogMel(n_mels=20),
    "whisper_downsampled_and_padded": WhisperLogMel(n_mels=20, downsample=2, pad_s=0.7),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    if torch.__version__ < "2.8":
        pytest.skip("export needs torch 2.8 or newer")
    folder, arguments = tmp_path_factory.mktemp(request.param), MODELS[request.param]
    asr = make_asr(folder, request.param, num_layers=arguments["exit_layers"][-1], **arguments)
    save_model(folder / "model", asr.mods, tokenizer=folder / "tokenizer.model")
    asr = EarlyExitASR.from_hparams(folder / "model")
    export_model(asr, folder / "export")
    return asr, EarlyExitRuntime(folder / "export", threads=1)


def states_of(encoder, feats, num_frames):
    """Return the state after each segment, without the final norm, and the lengths."""
    state, states = encoder.start(feats, num_frames), []
    for _ in encoder.exit_layers:
        state, _ = encoder.advance(state)
        states.append(state.x)
    return states, state.lengths


def states_of_forms(forms, feats, num_frames):
    x, lengths = forms[0](feats, num_frames)
    states = [x]
    for form in forms[1:]:
        states.append(form(states[-1], lengths))
    return states, lengths


def assert_same_states(found, expected, **tolerance):
    assert torch.equal(found[1], expected[1])
    for one, other in zip(found[0], expected[0], strict=True):
        for row, frames in enumerate(expected[1].tolist()):
            torch.testing.assert_close(one[row, :frames], other[row, :frames], **tolerance)


@torch.no_grad()
@pytest.mark.parametrize("family", PRETRAINED)
@pytest.mark.parametrize("lengths", [[50, 31, 2], [40]])
def test_law_9_segments_in_export_form_equal_the_layers_of_the_library(family, lengths):
    encoder = make_encoder(family)
    form = export_form(encoder)
    assert all(type(layer).__module__.startswith("speechbrain_ee") for layer in form.layers)
    forms = [SegmentForm(form, index) for index in range(len(encoder.exit_layers))]
    batch = make_batch(family, lengths)
    # sums in another order
    assert_same_states(states_of_forms(forms, *batch), states_of(encoder, *batch), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_group_norm_ignores_a_large_offset_and_the_padding():
    encoder = make_encoder("wav2vec2")
    feats, num_frames = make_batch("wav2vec2", [50, 20])
    feats = feats + 100.0
    (found, lengths), (expected, _) = front_end_form(encoder)(feats, num_frames), encoder.front_end(feats, num_frames)
    for row, frames in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[row, :frames], expected[row, :frames], atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_wavlm_uses_its_farthest_bias_beyond_the_largest_distance():
    arguments = FAMILIES["wavlm"][1]["backbone"] | {"num_buckets": 8, "max_bucket_distance": 10}
    encoder = make_encoder("wavlm", backbone=arguments)
    bias = export_form(encoder).layers[0].attention.compute_bias(30, 30)
    torch.testing.assert_close(bias, encoder.layers[0].attention.compute_bias(30, 30), rtol=0, atol=0)


def run_graph(path, **inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(one) for one in session.run(None, {name: one.numpy() for name, one in inputs.items()})]


def batch_of_noise(samples):
    wavs = torch.full((len(samples), max(samples)), 7.0)  # padding is garbage on purpose
    for row, count in enumerate(samples):
        wavs[row, :count] = torch.randn(count) * 0.1
    return wavs, torch.tensor(samples)


def assert_same_features(found, expected):
    (feats, num_frames), (other, lengths) = found, expected
    assert torch.equal(num_frames, lengths)
    assert feats.shape == other.shape
    for row, frames in enumerate(lengths.tolist()):
        torch.testing.assert_close(feats[row, :frames], other[row, :frames], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
@pytest.mark.parametrize("samples", [SAMPLES, [37], [16000]])
def test_features_in_export_form_equal_those_of_training(features, samples):
    batch = batch_of_noise(samples)
    assert_same_features(features_form(features)(*batch), features(*batch))


@NEEDS_TORCH
@torch.no_grad()
def test_the_graph_of_downsampled_waveforms_takes_any_length(tmp_path):
    features = FEATURES["waveform_downsampled"]
    inputs = batch_of_noise([16000, 15999, 8000])
    write.GraphWriter(tmp_path).write("a", features_form(features), inputs, interfaces.FEATURES)
    for samples in (SAMPLES, [37], [16000]):
        wavs, num_samples = batch_of_noise(samples)
        assert_same_features(
            run_graph(tmp_path / "a.onnx", wavs=wavs, num_samples=num_samples), features(wavs, num_samples)
        )


@NEEDS_TORCH
@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "backbone"), [("wavlm", BASE | SHALLOW), ("wav2vec2_large", LARGE | SHALLOW)], ids=["base", "large"]
)
def test_law_9_graphs_of_group_norm_layer_norm_and_gated_bias(tmp_path, family, backbone):
    encoder = make_encoder(family, num_layers=1, exit_layers=(1,), backbone=backbone)
    x, lengths = make_batch(family, [50, 49, 25])
    write.GraphWriter(tmp_path).write("a", SegmentForm(export_form(encoder), 0), (x, lengths), interfaces.FIRST_SEGMENT)
    for lengths in ([50, 31, 2], [40]):
        feats, num_frames = make_batch(family, lengths)
        x, out_lengths = run_graph(tmp_path / "a.onnx", x=feats, lengths=num_frames)
        assert_same_states(([x], out_lengths), states_of(encoder, feats, num_frames), atol=1e-4, rtol=1e-4)


class OtherFeatures(Features):
    """Features that have no export form."""

    def num_frames(self, num_samples):
        return num_samples

    def forward(self, wavs, num_samples):
        return wavs[:, :, None], num_samples


def test_other_features_and_encoders_are_refused():
    message = r"features of class OtherFeatures cannot be exported: LogMel, WhisperLogMel, Waveform can$"
    with pytest.raises(ValueError, match=message):
        features_form(OtherFeatures(sample_rate=16000, frame_size=1))
    with pytest.raises(ValueError, match=r"encoders of class Linear cannot be exported: TransformerExitEncoder, "):
        front_end_form(torch.nn.Linear(2, 2))


@NEEDS_TORCH
def test_a_graph_larger_than_a_file_can_be_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MAX_GRAPH_BYTES", 1000)
    x = torch.randn(2, 3, 20)
    with pytest.raises(ValueError, match=r"^a.onnx would have \d{4} bytes, and ONNX files end at 2 GB"):
        write.GraphWriter(tmp_path).write("a", torch.nn.Linear(20, 20), [x], ONE_INPUT)
    assert not (tmp_path / "a.onnx").exists()


@NEEDS_TORCH
@torch.no_grad()
def test_a_loud_frame_does_not_take_the_steps_of_the_others_in_a_quantised_product(tmp_path):
    linear, x = torch.nn.Linear(64, 32), torch.randn(20, 64)
    x[3] *= 100
    errors = []
    for module in (linear, RowScaledLinear(linear)):
        write.GraphWriter(tmp_path).write("linear", module, [x], ONE_INPUT, int8=True)
        (found,) = run_graph(tmp_path / "linear.onnx", x=x)
        others = torch.arange(20) != 3
        errors.append(float((found - linear(x))[others].norm() / linear(x)[others].norm()))
    assert errors[0] > 0.1
    assert errors[1] < 0.02


@torch.no_grad()
@pytest.mark.parametrize("family", ["whisper", "wavlm_large"])
def test_scaled_rows_change_nothing_but_rounding(family):
    encoder = make_encoder(family)
    form = scale_rows(export_form(encoder))
    assert all(isinstance(layer.network[2], RowScaledLinear) for layer in form.layers)
    forms = [SegmentForm(form, index) for index in range(len(encoder.exit_layers))]
    batch = make_batch(family, [50, 31])
    assert_same_states(states_of_forms(forms, *batch), states_of(encoder, *batch), atol=1e-4, rtol=1e-4)
