# SPDX-License-Identifier: Apache-2.0
"""Law 9: an exported model gives what torch gives at every exit, takes the same exits, and writes the same texts."""

import hashlib
import json
import shutil
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import soundfile
import torch
from onnx import TensorProto, helper, load_from_string
from unit.models import N_MELS, make_asr, make_joint_heads

from ee_runtime import EarlyExitRuntime
from ee_runtime.calibration.file import write_calibration
from ee_runtime.cli import main
from ee_runtime.decoders.attention import GreedyAttention
from ee_runtime.decoders.attention_search import greedy_search, score_texts
from ee_runtime.decoders.base import best_tokens
from ee_runtime.export_folder import ExportError
from ee_runtime.interfaces import EXIT
from ee_runtime.policies import Capped, FixedExit, Patience, ScoreThreshold
from ee_runtime.policies.scores import COMPUTED, FROM_ATTENTION, SCORES
from ee_runtime.sessions import make_session
from ee_runtime.special_tokens import BOS_INDEX
from speechbrain_ee.export import write
from speechbrain_ee.export.attention import attention_values
from speechbrain_ee.export.export import export_model
from speechbrain_ee.export.features import FourierPower
from speechbrain_ee.export.graphs import ExitForm
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.inference.ctc_scores import output_scores
from speechbrain_ee.lobes import CTCHeads, LogMel
from speechbrain_ee.model.folder import save_model

pytestmark = pytest.mark.skipif(torch.__version__ < "2.8", reason="export needs torch 2.8 or newer")
# The settings of SpeechBrain's recipes: a Hamming window that is shorter than the transform, reflection, GELU.
AS_IN_RECIPES = {"features": LogMel(n_mels=N_MELS, n_fft=512), "padding_mode": "reflect", "activation": "gelu"}
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}  # of log-probabilities; both compute in float32, in another order
SECONDS = (1.3, 0.4, 2.1, 0.05)


def noise(seconds, seed=0):
    return np.random.default_rng(seed).standard_normal(int(seconds * 16000), dtype=np.float32) / 10


def waveforms():
    return [noise(seconds, seed) for seed, seconds in enumerate(SECONDS)]


def make_pair(folder, asr):
    """Return a model and its export."""
    save_model(folder / "model", asr.mods, tokenizer=folder / "tokenizer.model")
    asr = EarlyExitASR.from_hparams(folder / "model")
    export_model(asr, folder / "export")
    return asr, EarlyExitRuntime(folder / "export", threads=1)


@pytest.fixture(scope="module")
def attention_pair(tmp_path_factory):
    """Return a model whose second and third exit have decoders of their own, and its export."""
    folder = tmp_path_factory.mktemp("conformer_aed")
    asr = make_asr(folder, "conformer", num_layers=3, exit_layers=(1, 2, 3))
    heads = make_joint_heads((1, 2, 3), asr.tokenizer.vocab_size, decoders_at=[2, 3])
    heads.heads.load_state_dict(asr.mods.heads.heads.state_dict())
    # With these seeds, texts vary with audio and exit, and most of them end before the limit.
    for decoder, seed in zip(heads.decoders, (773, 954), strict=True):
        torch.manual_seed(seed)
        for parameter in decoder.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        for module in decoder.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.data += 1
        for layer in decoder.transformer.layers:
            layer.multihead_attn.att.out_proj.weight.data *= 6
        torch.nn.init.normal_(decoder.output.weight)
        decoder.output.bias.data[:3] = torch.tensor([-9.0, -9.0, 3.0])  # blank, BOS, EOS
    asr.mods.heads = heads
    return make_pair(folder, asr)


@pytest.fixture(scope="module", params=["conformer_aed", "conformer_relpos", "transformer"])
def pair(request, tmp_path_factory):
    if request.param == "conformer_aed":
        return request.getfixturevalue("attention_pair")
    folder = tmp_path_factory.mktemp(request.param)
    # Every graph takes seconds to export. Several layers between exits: test_pretrained.py.
    settings = AS_IN_RECIPES if request.param == "transformer" else {}
    return make_pair(folder, make_asr(folder, request.param, num_layers=1, exit_layers=(1,), **settings))


def test_graphs_that_differ_in_their_weights_only_are_traced_once(attention_pair, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(write, "_trace", lambda module, file, *rest: calls.append(file) or tiny_graph())
    export_model(attention_pair[0], tmp_path)
    traced = ["features.onnx", "segment0.onnx", "exit0.onnx", "segment1.onnx", "exit1.onnx", "change.onnx"]
    assert calls == [*traced, "memory0.onnx", "step0.onnx"]  # exit1 and exit2 have decoders, exit0 has none


def test_an_export_that_fails_leaves_the_earlier_one_and_a_new_one_leaves_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "_trace", lambda *_: tiny_graph())
    asr = make_asr(tmp_path, num_layers=3, exit_layers=(1, 3))
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    asr = EarlyExitASR.from_hparams(tmp_path / "model")
    out = tmp_path / "export"
    export_model(asr, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "own.onnx").write_bytes(b"of the user")
    (out / "segment7.onnx").write_bytes(b"of an export with more exits")
    with monkeypatch.context() as patch:
        patch.setattr("speechbrain_ee.export.export.ChangeForm", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export_model(asr, out)
    assert {name: (out / name).read_bytes() for name in before} == before
    export_model(asr, out)
    assert {path.name for path in out.iterdir()} == {*before, "own.onnx"}


@pytest.mark.parametrize(("n_fft", "win_length"), [(400, 400), (512, 400), (512, 401), (512, 512), (400, 320)])
@pytest.mark.parametrize("window", [torch.hamming_window, torch.hann_window])
def test_the_power_spectrum_is_that_of_torch_for_every_window(n_fft, win_length, window):
    window, x = window(win_length), torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
    expected = torch.stft(x, n_fft, 160, win_length, window, center=False, return_complex=True).abs().square()
    # sums of 512 products in float32, whose squares are up to a thousand
    torch.testing.assert_close(FourierPower(window, n_fft, 160)(x), expected.transpose(1, 2), atol=1e-3, rtol=1e-4)


def test_an_odd_transform_cannot_be_exported():
    with pytest.raises(ValueError, match="n_fft=401 samples cannot be exported: n_fft must be even"):
        FourierPower(torch.hann_window(401), 401, 160)


@pytest.mark.parametrize(
    ("family", "kind", "message"),
    [
        (
            "conformer_rope",
            "linear",
            "encoders with attention_type RoPEMHA cannot be exported: train a model with another",
        ),
        ("conformer", "blstm", "exit heads with kind blstm cannot be exported: train a model with another kind"),
    ],
)
def test_parts_that_onnx_cannot_express_are_named(tmp_path, family, kind, message):
    asr = make_asr(tmp_path, family, num_layers=1, exit_layers=(1,))
    width, size = asr.mods.encoder.d_model, asr.tokenizer.vocab_size
    asr.mods.heads = CTCHeads(num_exits=1, d_model=width, vocab_size=size, kind=kind, hidden_size=8)
    with pytest.raises(ValueError, match=message):
        export_model(asr, tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_a_calibration_of_another_model_is_an_error_only_if_it_is_needed(attention_pair, tmp_path, caplog):
    shutil.copytree(attention_pair[1].export.folder, tmp_path / "export")
    write_calibration(tmp_path / "export", {"policy": FixedExit(1).to_dict(), "model": "another"})
    with pytest.raises(ValueError, match="belongs to another model"):
        EarlyExitRuntime(tmp_path / "export")
    assert EarlyExitRuntime(tmp_path / "export", policy=FixedExit()).calibration is None
    assert "the calibration is ignored" in caplog.text


def test_graphs_are_loaded_from_any_working_directory(attention_pair, tmp_path, monkeypatch):
    folder = attention_pair[1].export.folder
    monkeypatch.chdir(folder.parent)
    runtime = EarlyExitRuntime(folder.name, threads=1)
    monkeypatch.chdir(tmp_path)
    assert runtime.transcribe_waveforms([noise(0.3)], policy=FixedExit(1))[0].exit_layer == 1


def test_a_graph_that_cannot_be_loaded_ends_the_command(attention_pair, tmp_path, capsys):
    shutil.copytree(attention_pair[1].export.folder, tmp_path / "export")
    broken = b"\x08\x0a"  # a graph of nothing, with the right hash
    (tmp_path / "export" / "segment0.onnx").write_bytes(broken)
    values = json.loads((tmp_path / "export" / "export.json").read_text("utf-8"))
    entry = {"file": "segment0.onnx", "bytes": len(broken), "sha256": hashlib.sha256(broken).hexdigest()}
    values["graphs"]["segments"][0] = entry
    (tmp_path / "export" / "export.json").write_text(json.dumps(values), "utf-8")
    soundfile.write(tmp_path / "a.wav", noise(0.3), 16000)
    with pytest.raises(SystemExit) as caught:
        main(["--model", str(tmp_path / "export"), *[str(tmp_path / "a.wav")] * 3])
    assert caught.value.code == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("policy: ")]
    assert len(lines) == 1 and "segment0.onnx: onnxruntime cannot load it" in lines[0]


def tiny_graph():
    """Return a graph without weights."""
    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in "xy")
    return helper.make_model(helper.make_graph([node], "tiny", [x], [y])).SerializeToString()


@torch.inference_mode()
def test_law_9_every_exit_gives_the_log_probabilities_and_scores_of_torch(pair):
    asr, runtime = pair
    run, num_frames = asr.start(asr.make_batch(asr.check_waveforms(waveforms())))
    other, other_frames = runtime.start(runtime.make_batch(waveforms()))
    assert num_frames == other_frames
    before = other_before = None
    for _ in asr.exit_layers:
        run.advance()
        other.advance()
        output, found = run.output(), other.output()
        for row, frames in enumerate(output.lengths.tolist()):
            expected = output.log_probs[row, :frames].numpy()
            np.testing.assert_allclose(found.log_probs[row, :frames], expected, **TOLERANCE)
        scores = output_scores(output, before, names=COMPUTED)
        for expected, got in zip(scores, other.scores(found, other_before, COMPUTED), strict=True):
            assert got == pytest.approx(expected, abs=1e-4)
        before, other_before = output, found


def test_exports_name_no_folder_of_the_machine_and_are_the_same_each_time(attention_pair, tmp_path):
    asr, runtime = attention_pair
    export_model(asr, tmp_path)
    for path in sorted(tmp_path.iterdir()):
        data = path.read_bytes()
        assert data == (runtime.export.folder / path.name).read_bytes(), path.name
        assert b"site-packages" not in data and b"speechbrain_ee/" not in data, path.name


def test_nan_in_a_valid_frame_makes_every_score_of_the_graph_nan(pair, tmp_path):
    asr, _ = pair
    form = ExitForm(asr.mods.encoder, asr.mods.heads, 0)
    x, lengths = torch.randn(2, 9, asr.mods.encoder.d_model), torch.tensor([9, 8])
    write.GraphWriter(tmp_path).write("exit", form, (x, lengths), EXIT)
    session = make_session(str(tmp_path / "exit.onnx"), threads=1)
    x[:, 8] = torch.nan  # the last frame of the first, and padding of the second
    (scores,) = session.run(["scores"], {"x": x.numpy(), "lengths": lengths.numpy()})
    assert np.isnan(scores[0]).all() and not np.isnan(scores[1]).any()


@pytest.mark.parametrize(
    "policy",
    [FixedExit(), FixedExit(1), Patience(2), ScoreThreshold("change", 0.3), Capped(FixedExit(), max_layer=1)],
)
def test_the_runtime_writes_what_torch_writes(pair, policy):
    asr, runtime = pair
    expected = asr.transcribe_waveforms(waveforms(), policy=policy)
    for one, found in zip(expected, runtime.transcribe_waveforms(waveforms(), policy=policy), strict=True):
        assert (found.text, found.exit_layer, found.macs) == (one.text, one.exit_layer, one.macs)
        assert [word.start for word in found.words] == [word.start for word in one.words]


def test_the_same_exits_wherever_the_score_is_not_at_the_threshold(pair):
    asr, runtime = pair
    never = ScoreThreshold("entropy", -1.0)
    ordered = sorted(
        one.policy_value
        for layer in asr.exit_layers
        for one in asr.transcribe_waveforms(waveforms(), policy=never, max_layer=layer)
    )
    for low, high in zip(ordered, ordered[1:], strict=False):
        if high - low < 1e-3:
            continue
        policy = ScoreThreshold("entropy", (low + high) / 2)
        layers = [[one.exit_layer for one in model.transcribe_waveforms(waveforms(), policy=policy)] for model in pair]
        assert layers[0] == layers[1]


def test_one_utterance_of_any_length_and_alone(pair):
    asr, runtime = pair
    for samples in (1, 100, 400, 799, 16001):
        (expected,), (found,) = (model.transcribe_waveforms([noise(2)[:samples]]) for model in pair)
        assert (found.text, found.macs) == (expected.text, expected.macs)


@pytest.mark.parametrize("rate", [8000, 16000, 44101])
def test_a_file_of_any_rate_gives_the_same_text(pair, tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.stack([noise(5)[: rate * 2]] * 2, 1), rate)
    expected, found = (model.transcribe_file(tmp_path / "a.wav") for model in pair)
    assert found.text == expected.text


def test_segments_above_the_deepest_exit_are_not_loaded(pair):
    asr, runtime = pair
    other = EarlyExitRuntime(runtime.export.folder, threads=1)
    other.transcribe_waveforms([noise(1.0)], policy=FixedExit(1))
    assert [graph.is_loaded for graph in other._segments] == [layer == 1 for layer in asr.exit_layers]


@pytest.fixture
def damaged(pair, tmp_path):
    """Return a copy of the export to be damaged."""
    return shutil.copytree(pair[1].export.folder, tmp_path / "export")


def replace(export, name, data):
    """Replace a graph, and its size and hash in export.json."""
    (export / name).write_bytes(data)
    values = json.loads((export / "export.json").read_text("utf-8"))
    graphs = values["graphs"]
    for one in (graphs["features"], *graphs["segments"], *graphs["exits"], graphs["change"]):
        if one["file"] == name:
            one |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (export / "export.json").write_text(json.dumps(values), "utf-8")


def enormous(model):
    """Put an array of 2**62 numbers in the place of the first output."""
    out = model.graph.output[0].name
    node = next(one for one in model.graph.node if out in one.output)
    node.output[list(node.output).index(out)] = "before"
    model.graph.initializer.append(helper.make_tensor("size", TensorProto.INT64, [1], [2**62]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["big"]))
    model.graph.node.append(helper.make_node("Identity", ["big"], [out]))


def test_a_graph_in_the_place_of_another_is_refused(damaged):
    replace(damaged, "exit0.onnx", (damaged / "segment0.onnx").read_bytes())
    with pytest.raises(ExportError, match=r"exit0.onnx is not a graph of this export: its outputs are y tensor"):
        EarlyExitRuntime(damaged).transcribe_waveforms([noise(0.5)], policy=FixedExit(1))


def test_a_graph_that_is_replaced_after_the_export_was_opened_is_refused(damaged):
    runtime = EarlyExitRuntime(damaged)
    data = (damaged / "exit0.onnx").read_bytes()
    (damaged / "exit0.onnx").unlink()
    (damaged / "new").write_bytes(data)
    (damaged / "new").rename(damaged / "exit0.onnx")
    with pytest.raises(
        ExportError, match="exit0.onnx was changed or removed after the export was opened: open it again"
    ):
        runtime.transcribe_waveforms([noise(0.5)], policy=FixedExit(1))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_folder_whose_name_is_not_utf_8_is_read(pair, damaged):
    folder = damaged.rename(damaged.with_name("caf\udce9"))
    (expected,), (found,) = (model.transcribe_waveforms([noise(1.0)]) for model in (pair[1], EarlyExitRuntime(folder)))
    assert found.text == expected.text


def test_a_vocabulary_of_another_size_is_refused(damaged):
    values = json.loads((damaged / "export.json").read_text("utf-8"))
    (damaged / "export.json").write_text(json.dumps(values | {"vocab": [*values["vocab"], "z"]}), "utf-8")
    of_attention = "attention decoders have 12 tokens, vocab has 13"
    with pytest.raises(ExportError, match=rf"log_probs has the shape \(1, 13, 12\).*\(1, 13, 13\)|{of_attention}"):
        EarlyExitRuntime(damaged).transcribe_waveforms([noise(0.5)])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda model: setattr(model.opset_import[0], "version", 99), "onnxruntime cannot load it"),
        (lambda model: setattr(model.graph.node[0], "op_type", "Loop"), "has the operator 'Loop'"),
        (lambda model: setattr(model.graph.output[0], "name", "\x1b[2J"), "onnxruntime cannot load it"),
        (enormous, "onnxruntime cannot run it"),
    ],
)
def test_a_changed_graph_with_the_right_hash_is_one_line(damaged, tmp_path, capfd, edit, message):
    soundfile.write(tmp_path / "a.wav", noise(0.5), 16000)
    model = load_from_string((damaged / "segment0.onnx").read_bytes())
    edit(model)
    replace(damaged, "segment0.onnx", model.SerializeToString())
    try:
        status = main(["--model", str(damaged), str(tmp_path / "a.wav"), "--threads", "1"])
    except SystemExit as ended:
        status = ended.code
    captured = capfd.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("policy: ")]
    assert (status, captured.out, len(lines)) == (1, "", 1), "nothing of onnxruntime is printed"
    assert message in lines[0] and lines[0].startswith("ee-transcribe: error: ") and lines[0].isprintable()


def test_limits_and_costs_are_those_of_torch(pair):
    asr, runtime = pair
    assert (runtime.min_seconds, runtime.max_part_s) == (asr.min_seconds, asr.max_part_s)
    assert runtime.exit_parameters() == asr.exit_parameters()
    for frames in (1, 33, 1000, 48001):
        assert runtime.exit_macs(frames) == asr.exit_macs(frames)
        assert runtime.exit_macs(frames, heads_run=1) == asr.exit_macs(frames, heads_run=1)


def test_an_utterance_longer_than_the_table_of_positions_is_refused(pair):
    asr, runtime = pair
    if asr.mods.encoder.max_output_frames is None:
        pytest.skip("no table")
    for model in pair:
        with pytest.raises(ValueError, match=r"\d+ encoder frames are more than"):
            model.transcribe_waveforms([noise(101)])


def outputs_at(pair, layer):
    """Return the outputs of torch and of the export at an exit."""
    found = []
    for model in pair:
        with model.inference():
            run, _ = model.start(model.make_batch(model.check_waveforms(waveforms())))
            for _ in range(model.exit_layers.index(layer) + 1):
                run.advance()
            found.append(run.output())
    return found


@pytest.mark.parametrize("layer", [2, 3])
def test_law_9_every_step_of_a_decoder_gives_the_log_probabilities_of_torch(attention_pair, layer):
    said = [[BOS_INDEX, 4, 5, 6], [BOS_INDEX, 7, 7, 3], [BOS_INDEX, 9, 4, 8], [BOS_INDEX, 3, 10, 5]]
    runs = [output.start_attention() for output in outputs_at(attention_pair, layer)]

    def read(rows, begin, end):
        predicted, found = (
            [np.asarray(one) for one in run.read([said[row][begin:end] for row in rows])] for run in runs
        )
        for values, expected in zip(found, predicted, strict=True):
            np.testing.assert_allclose(values, expected, **TOLERANCE)

    read([0, 1, 2, 3], 0, 1)
    read([0, 1, 2, 3], 1, 4)
    for run in runs:
        run.cut(2)
        run.keep([2, 0])
        assert run.num_tokens == 2
    read([2, 0], 2, 4)


def test_law_9_hypotheses_of_one_utterance_have_the_scores_of_torch(attention_pair):
    texts = [[4, 5, 6], [], [7], [9, 4, 8, 8, 8]]
    rows = [output.row(1) for output in outputs_at(attention_pair, 3)]
    expected, found = (score_texts(row, row.start_attention(), texts) for row in rows)
    for one, other in zip(expected, found, strict=True):
        assert (other.tokens, other.macs) == (one.tokens, one.macs)
        assert other.log_probs == pytest.approx(one.log_probs, abs=1e-4)
        assert other.entropies == pytest.approx(one.entropies, abs=1e-4)


DECODERS = {
    "greedy": lambda model: model.make_decoder("greedy"),
    "greedy in a batch": lambda model: GreedyAttention(model.tokenizer, draft=False),
    "beam": lambda model: model.make_decoder("beam", beam_size=4),
}


@pytest.mark.parametrize(("layer", "name"), [*product((2, 3), DECODERS), (1, "greedy")])
def test_attention_decodes_as_torch_does(attention_pair, layer, name):
    outputs = outputs_at(attention_pair, layer)
    expected, found = (
        DECODERS[name](model).decode(output) for model, output in zip(attention_pair, outputs, strict=True)
    )
    assert layer == 1 or len({one.text for one in expected}) > 1, "else nothing is tested"
    for one, other in zip(expected, found, strict=True):
        assert (other.text, other.ctc_text, other.macs) == (one.text, one.ctc_text, one.macs)
        assert [span[:3] for span in other.spans] == [span[:3] for span in one.spans]
        assert other.scores == pytest.approx(one.scores, abs=1e-4, nan_ok=True)


def test_a_batch_is_decoded_as_its_utterances_alone(attention_pair):
    _, runtime = attention_pair
    _, output = outputs_at(attention_pair, 2)
    limits = GreedyAttention(runtime.tokenizer).limits(output, best_tokens(output))
    for row, (together, limit) in enumerate(zip(greedy_search(output, limits), limits, strict=True)):
        (alone,) = greedy_search(output.row(row), [limit])
        assert (together.tokens, together.macs, together.is_cut) == (alone.tokens, alone.macs, alone.is_cut)


@pytest.mark.parametrize("name", FROM_ATTENTION)
def test_scores_of_attention_decide_as_in_torch(attention_pair, name):
    asr, _ = attention_pair
    never = ScoreThreshold(name, 9.0 if SCORES[name].higher_is_surer else -1.0)
    at_second = asr.transcribe_waveforms(waveforms(), policy=never, max_layer=2)
    policy = ScoreThreshold(name, sum(sorted(one.policy_value for one in at_second)[1:3]) / 2)
    expected, found = (model.transcribe_waveforms(waveforms(), policy=policy) for model in attention_pair)
    assert name == "ctc_attention_agreement" or {one.exit_layer for one in expected} == {2, 3}
    for one, other in zip(expected, found, strict=True):
        assert (other.text, other.exit_layer, other.macs) == (one.text, one.exit_layer, one.macs)
        assert other.policy_value == pytest.approx(one.policy_value, abs=1e-4)


def test_names_of_decodings_are_those_of_torch_or_refused(attention_pair):
    asr, runtime = attention_pair
    assert asr.decoder.name == runtime.decoder.name == "greedy attention"
    for name in ("greedy", "beam", "rescore", "ctc"):
        assert runtime.make_decoder(name).name == asr.make_decoder(name).name
    for name in ("lexicon", "greedily"):
        with pytest.raises(ValueError, match=f"no decoding '{name}': give greedy, beam, rescore or ctc"):
            runtime.make_decoder(name)


def test_rescoring_takes_the_text_that_the_decoder_finds_more_probable(attention_pair):
    _, runtime = attention_pair
    decoder = runtime.make_decoder("rescore", beam_size=4)
    _, output = outputs_at(attention_pair, 3)
    rows = [output.row(row) for row in range(len(SECONDS))]
    for row, candidates, chosen in zip(
        rows, decoder.candidates(output), decoder.search(output, rows, best_tokens(output)), strict=True
    ):
        scored = score_texts(row, row.start_attention(), [tokens for tokens, _ in candidates])
        totals = [sum(one.log_probs) + 0.5 * score for one, (_, score) in zip(scored, candidates, strict=True)]
        assert chosen.tokens == candidates[totals.index(max(totals))].tokens and len(candidates) > 1


def test_a_text_as_long_as_the_decoder_reads_and_not_longer(attention_pair):
    _, output = outputs_at(attention_pair, 2)
    run, most = output.row(0).start_attention(), output.attention_decoder.max_length
    assert np.isfinite(run.read([[BOS_INDEX] * most]).log_probs).all()
    with pytest.raises(ValueError, match=f"{most + 1} tokens are more than max_length={most}: cut the text"):
        run.read([[4]])


def test_attention_runs_without_torch(attention_pair, tmp_path):
    asr, runtime = attention_pair
    soundfile.write(tmp_path / "a.wav", noise(1.3), 16000)
    code = (
        "import sys; sys.modules.update(torch=None, torchaudio=None, speechbrain=None)\n"
        "from ee_runtime.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "--model", runtime.export.folder, tmp_path / "a.wav"]
    for decoding in ("greedy", "beam"):
        asr_decoder, asr.decoder = asr.decoder, asr.make_decoder(decoding)
        expected = asr.transcribe_file(tmp_path / "a.wav").text
        asr.decoder = asr_decoder
        ended = subprocess.run([*command, "--decoding", decoding], capture_output=True, text=True)
        assert ended.returncode == 0 and ended.stdout.rstrip("\n").split("\t")[1] == expected, ended.stderr
    ended = subprocess.run([*command, "--decoding", "lexicon"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "ee-transcribe: error: an export with attention decoders has no decoding 'lexicon': give greedy, beam, rescore "
        "or ctc, or run the model with torch"
    ]


@pytest.mark.parametrize(
    ("path", "value", "layer", "message"),
    [
        (["decoder_of_exit"], [0, 1, None], 1, "exit0.onnx is not a graph of this export: its outputs are log_probs"),
        (["decoder_of_exit"], [0, 1, None], 3, "exit2.onnx is not a graph of this export: its outputs are log_probs"),
        (["cost", "num_layers"], 3, 2, "memory0.onnx is not a graph of this export: its outputs are memory0"),
        (["nhead"], 4, 2, "step0.onnx: onnxruntime cannot run it"),
    ],
)
def test_decoders_that_are_described_wrongly_are_refused(attention_pair, tmp_path, path, value, layer, message):
    folder = shutil.copytree(attention_pair[1].export.folder, tmp_path / "export")
    values = json.loads((folder / "export.json").read_text("utf-8"))
    place = values["attention"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / "export.json").write_text(json.dumps(values), "utf-8")
    with pytest.raises(ExportError, match=message):
        EarlyExitRuntime(folder, threads=1).transcribe_waveforms(waveforms(), policy=FixedExit(layer))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"decoders": "shared"}, [0, 0, 0]),
        ({"decoders": "per_exit"}, [0, 1, 2]),
        ({"decoders": "per_exit", "decoders_at": [1, 4]}, [0, None, 1]),
        ({"decoders": "shared", "decoders_at": [4]}, [None, None, 0]),
    ],
)
def test_every_exit_names_its_decoder(arguments, expected):
    assert attention_values(make_joint_heads(**arguments))["decoder_of_exit"] == expected
