# SPDX-License-Identifier: Apache-2.0
"""EarlyExitASR: the class that a user loads."""

import json
import resource
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.utils.fetching import FetchConfig, LocalStrategy
from unit.models import FAMILIES, make_asr, make_tokenizer

from ee_runtime.audio import AudioError
from ee_runtime.calibration.file import write_calibration
from ee_runtime.policies import FixedExit, Policy, ScoreThreshold
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.lobes import AttentionDecoder, WhisperLogMel
from speechbrain_ee.lobes.cost import exit_macs
from speechbrain_ee.model.folder import ModelError, save_model
from speechbrain_ee.text.tokenizer import Tokenizer

FILES = ("config.json", "model.safetensors", "tokenizer.model")
RATE = 16000


class StopByDuration(Policy):
    """A policy that depends on the duration only: exit index = whole tenths of a second."""

    score_names = ("entropy", "confidence")

    def __init__(self):
        self.looks = []

    def needs_head(self, exit_index, exit_layers):
        return True

    def stop(self, look):
        self.looks.append(look)
        return look.exit_index >= int(10 * look.facts["duration"])


@pytest.fixture
def asr(tmp_path):
    return make_asr(tmp_path)


@pytest.fixture
def folder(asr, tmp_path):
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    return tmp_path / "model"


def test_a_recording_is_cut_to_what_the_encoder_takes(asr):
    asr.mods.encoder.config["max_length"] = 101
    parts = asr.cut(noise(9.0))
    frames = [int(asr.mods.encoder.num_output_frames(asr.mods.features.num_frames(len(part)))) for part in parts]
    assert len(parts) > 1 and max(frames) <= 101 and sum(map(len, parts)) == 9 * RATE


def noise(seconds, seed=0, amplitude=0.1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(int(seconds * RATE), generator=generator) * amplitude


def rows_per_layer(encoder):
    """Count the utterances that pass through each layer, summed over calls."""
    rows = [0] * encoder.num_layers
    for index, layer in enumerate(encoder.layers):
        layer.register_forward_hook(
            lambda _, inputs, __, index=index: rows.__setitem__(index, rows[index] + len(inputs[0]))
        )
    return rows


@pytest.mark.parametrize("family", FAMILIES)
def test_each_utterance_goes_through_its_own_layers_only(tmp_path, family):
    asr = make_asr(tmp_path, family)  # exits after layers 1, 2, 4
    rows = rows_per_layer(asr.mods.encoder)
    waveforms = [noise(seconds, seed) for seed, seconds in enumerate((0.25, 0.05, 0.15, 0.05, 0.15))]
    results = asr.transcribe_waveforms(waveforms, policy=StopByDuration())
    assert [one.exit_layer for one in results] == [4, 1, 2, 1, 2]
    assert rows == [5, 3, 1, 1]
    for waveform, result in zip(waveforms, results, strict=True):
        (alone,) = asr.transcribe_waveforms([waveform], policy=FixedExit(result.exit_layer))
        assert alone.text == result.text


def test_policy_sees_duration_scores_and_costs_so_far(asr):
    policy = StopByDuration()
    asr.transcribe_waveforms([noise(0.15), noise(0.05)], policy=policy)
    longer, shorter, last = policy.looks
    assert [look.facts["duration"] for look in policy.looks] == [0.15, 0.05, 0.15]
    assert last.facts["batch_duration"] == 0.15, "the other one has left"
    asr.transcribe_waveforms([noise(0.2)] * 3, policy=policy)
    assert policy.looks[3].facts["batch_duration"] == pytest.approx(0.6)
    assert last.scores is longer.scores and len(last.scores) == 2
    assert last.scores[-1].keys() == {"entropy", "confidence"}, "what the policy asks for and no more"
    macs = exit_macs(asr.mods.encoder, asr.mods.heads, 16)
    assert longer.macs == last.macs == macs
    assert 0 < last.started < last.clock()
    assert shorter.exit_layers == (1, 2, 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_run_takes_leave_of_utterances_too(tmp_path, family):
    asr = make_asr(tmp_path, family)
    half = EarlyExitASR(modules=dict(asr.mods), hparams=vars(asr.hparams), run_opts={"precision": "bf16"})
    waveforms = [noise(0.25), noise(0.05, seed=1), noise(0.15, seed=2)]
    full, less = (one.transcribe_waveforms(waveforms, policy=StopByDuration()) for one in (asr, half))
    assert [one.exit_layer for one in less] == [one.exit_layer for one in full] == [4, 1, 2]
    assert [one.macs for one in less] == [one.macs for one in full]


def test_last_exit_stops_whatever_the_policy_says(asr):
    class Never(StopByDuration):
        def needs_head(self, exit_index, exit_layers):
            return False

        def stop(self, look):
            return False

    assert asr.transcribe_waveforms([noise(0.1)], policy=Never())[0].exit_layer == 4


def test_macs_count_the_heads_that_ran(asr):
    encoder, heads = asr.mods.encoder, asr.mods.heads
    for policy, layer, heads_run in (
        (FixedExit(4), 2, 1),
        (ScoreThreshold("entropy", -1.0), 2, 3),
        (ScoreThreshold("entropy", [None, 1.0, 1.0]), 1, 1),
    ):
        (result,) = asr.transcribe_waveforms([noise(0.5)], policy=policy)
        assert result.macs == exit_macs(encoder, heads, 51, heads_run=heads_run)[layer]


def test_score_is_the_policy_own_at_the_exit_taken(asr):
    waveforms = [noise(0.3)]
    (fixed,) = asr.transcribe_waveforms(waveforms, policy=FixedExit(1))
    assert fixed.policy_value is None
    (first,) = asr.transcribe_waveforms(waveforms, policy=ScoreThreshold("entropy", 1.0))
    (last,) = asr.transcribe_waveforms(waveforms, policy=ScoreThreshold("entropy", -1.0))
    assert 0 < first.policy_value < 1 and 0 < last.policy_value < 1 and first.policy_value != last.policy_value


def test_one_sample_and_silence(asr):
    results = asr.transcribe_waveforms([torch.ones(1), torch.zeros(RATE), noise(0.2)])
    assert [type(one.text) for one in results] == [str] * 3
    alone = [asr.transcribe_waveforms([wav])[0].text for wav in (torch.ones(1), torch.zeros(RATE))]
    assert [one.text for one in results[:2]] == alone


@pytest.mark.parametrize("waveforms", [[], [torch.zeros(0)], [torch.zeros(2, 100)]])
def test_nothing_to_transcribe_is_refused(asr, waveforms):
    with pytest.raises(ValueError, match="give at least one, each \\(samples,\\) and not empty"):
        asr.transcribe_waveforms(waveforms)


@pytest.mark.parametrize(
    ("shape", "wav_lens"), [((2, 800), [800, 400]), ((2, 800), [1.0, 0.0]), ((2, 800), [1.0]), ((800,), [1.0])]
)
def test_lengths_that_are_not_relative_are_refused(asr, shape, wav_lens):
    with pytest.raises(ValueError, match=r"give \(batch, samples\) and one relative length in \(0, 1\] for each"):
        asr.transcribe_batch(torch.zeros(shape), torch.tensor(wav_lens))


def test_a_policy_for_other_exits_is_refused_when_it_is_given(tmp_path):
    with pytest.raises(ValueError, match="exit layer 3 is not an exit of this model; choose one of 1, 2, 4"):
        make_asr(tmp_path, policy=FixedExit(3))
    with pytest.raises(ValueError, match="got 2 thresholds for 3 exits"):
        make_asr(tmp_path, policy=ScoreThreshold("entropy", [0.1, 0.2]))


def test_behaves_as_a_pretrained_of_speechbrain(asr):
    assert not any(module.training for module in asr.mods.values())
    assert not any(parameter.requires_grad for parameter in asr.parameters())
    wavs, wav_lens = torch.stack([noise(0.5), noise(0.5, seed=1)]), torch.tensor([1.0, 0.5])
    assert asr(wavs, wav_lens) == asr.transcribe_batch(wavs, wav_lens)


def test_run_options_device_and_precision(folder):
    full = EarlyExitASR.from_hparams(folder, run_opts={"device": "cpu"})
    half = EarlyExitASR.from_hparams(folder, run_opts={"device": "cpu", "precision": "bf16"})
    assert (full.device, half.device) == ("cpu", "cpu")
    seen = {}
    for name, asr in (("full", full), ("half", half)):
        asr.mods.heads.heads[0].register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out.dtype))
        policy = ScoreThreshold("entropy", 1.0)
        seen[name, "score"] = asr.transcribe_waveforms([noise(0.5)], policy=policy)[0].policy_value
    assert (seen["full"], seen["half"]) == (torch.float32, torch.bfloat16)
    assert seen["half", "score"] == pytest.approx(seen["full", "score"], abs=0.02)
    assert all(parameter.dtype == torch.float32 for parameter in half.parameters())


def test_savedir_gets_links_or_copies(folder, tmp_path):
    write_calibration(folder, {"policy": FixedExit(2).to_dict()})
    linked = EarlyExitASR.from_hparams(folder, savedir=tmp_path / "linked")
    copied = EarlyExitASR.from_hparams(folder, savedir=tmp_path / "copied", local_strategy=LocalStrategy.COPY)
    for name in (*FILES, "calibration.json"):
        assert (tmp_path / "linked" / name).resolve() == (folder / name).resolve()
        assert not (tmp_path / "copied" / name).is_symlink()
    assert linked.transcribe_waveforms([noise(0.5)]) == copied.transcribe_waveforms([noise(0.5)])
    assert linked.policy.layer == copied.policy.layer == 2


def test_savedir_has_no_dangling_link_where_there_is_no_calibration(folder, tmp_path):
    EarlyExitASR.from_hparams(folder, savedir=tmp_path / "linked")
    assert sorted(path.name for path in (tmp_path / "linked").iterdir()) == sorted((".source.json", *FILES))


def test_calibration_is_the_default_and_an_argument_wins(folder):
    assert EarlyExitASR.from_hparams(folder).policy.to_dict() == FixedExit().to_dict()
    write_calibration(folder, {"policy": ScoreThreshold("entropy", 1.0).to_dict()})
    asr = EarlyExitASR.from_hparams(folder)
    assert asr.policy.to_dict() == {"policy": "score_threshold", "score": "entropy", "threshold": 1.0}
    assert asr.transcribe_waveforms([noise(0.2)])[0].exit_layer == 1
    assert asr.transcribe_waveforms([noise(0.2)], policy=FixedExit(2))[0].exit_layer == 2
    asr = EarlyExitASR.from_hparams(folder, policy=FixedExit(4))
    assert asr.transcribe_waveforms([noise(0.2)])[0].exit_layer == 4


def refusal(source, **arguments):
    with pytest.raises(ValueError) as raised:
        EarlyExitASR.from_hparams(source, **arguments)
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize("name", FILES)
def test_a_folder_without_one_of_its_files_is_refused(folder, tmp_path, name):
    (folder / name).unlink()
    assert name in str(refusal(folder))
    assert name in str(refusal(folder, savedir=tmp_path / "linked"))


def test_broken_files_are_refused(folder):
    write_calibration(folder, {"policy": FixedExit(3).to_dict()})
    assert "exit layer 3 is not an exit" in str(refusal(folder))
    (folder / "calibration.json").write_text("{")
    assert "calibrate again or remove it" in str(refusal(folder))
    (folder / "tokenizer.model").write_text("nothing")
    assert "not a SentencePiece model" in str(refusal(folder))


def test_a_tokenizer_of_another_model_is_refused(folder):
    Tokenizer.train(["a b"], path=folder / "tokenizer.model", model_type="char", vocab_size=6)
    error = refusal(folder)
    assert isinstance(error, ModelError)
    assert "tokens, the exit heads have 12" in str(error)


def test_no_hyperparams_yaml_is_ever_read(folder, tmp_path):
    (folder / "hyperparams.yaml").write_text(f"a: !apply:os.mkdir [{tmp_path / 'owned'}]\n")
    EarlyExitASR.from_hparams(folder)
    assert not (tmp_path / "owned").exists()


def test_neither_a_folder_nor_on_the_hub_is_one_line():
    error = refusal("nobody/no-such-model")
    assert isinstance(error, ModelError)
    assert str(error).startswith("nobody/no-such-model: it is not in the cache, and the Hub cannot be reached")


def hub_cache(folder, cache):
    """Make the cache that huggingface_hub writes when it downloads nobody/tiny."""
    snapshot = cache / "models--nobody--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    (cache / "models--nobody--tiny" / "refs").mkdir()
    (cache / "models--nobody--tiny" / "refs" / "main").write_text("0" * 40)
    return FetchConfig(huggingface_cache_dir=str(cache))


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("with_savedir", [False, True])
def test_hub_name_comes_from_the_cache_offline_with_its_calibration(folder, tmp_path, calibrated, with_savedir):
    if calibrated:
        write_calibration(folder, {"policy": FixedExit(2).to_dict()})
    config = hub_cache(folder, tmp_path / "cache")
    savedir = tmp_path / "saved" if with_savedir else None
    asr = EarlyExitASR.from_hparams("nobody/tiny", fetch_config=config, savedir=savedir)
    assert asr.policy.layer == (2 if calibrated else None)
    expected = EarlyExitASR.from_hparams(folder).transcribe_waveforms([noise(0.3)])
    assert asr.transcribe_waveforms([noise(0.3)]) == expected


def test_load_audio_is_mono_at_the_model_rate(asr, tmp_path):
    seconds = 0.5
    for rate in (8000, 16000, 48000):
        tone = np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate) / 2
        stereo = np.stack([tone, tone / 2], axis=1)
        soundfile.write(tmp_path / "a.wav", stereo, rate)
        waveform = asr.load_audio(tmp_path / "a.wav")
        assert waveform.shape == (int(seconds * RATE),)
        expected = torch.sin(2 * torch.pi * 440 * torch.arange(len(waveform)) / RATE) * 3 / 8  # the mean
        middle = slice(1000, -1000)  # the resampler rings at both ends
        torch.testing.assert_close(waveform[middle], expected[middle], atol=0.01, rtol=0)


@pytest.mark.parametrize("content", [None, b"", b"no audio"])
def test_unreadable_audio_is_one_line(asr, tmp_path, content):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match="a.wav") as raised:
        asr.transcribe_file(path)
    assert "\n" not in str(raised.value)


def test_transcribe_file_is_transcribe_batch(asr, tmp_path):
    waveform = noise(0.7)
    soundfile.write(tmp_path / "a.wav", waveform.numpy(), RATE, subtype="FLOAT")
    (expected,) = asr.transcribe_batch(waveform.unsqueeze(0), torch.ones(1))
    assert asr.transcribe_file(str(tmp_path / "a.wav")) == expected
    assert expected.parts == []
    fixed = asr.transcribe_file(tmp_path / "a.wav", policy=FixedExit(1))
    assert fixed.exit_layer == 1


def test_a_recording_of_31_minutes_is_cut_and_stays_small(asr, tmp_path):
    generator = np.random.default_rng(0)
    second = (generator.standard_normal(RATE) * 30).astype(np.int16)
    soundfile.write(tmp_path / "long.wav", np.tile(second, 31 * 60), RATE)
    batches = []
    asr.mods.features.register_forward_hook(lambda _, inputs, __: batches.append(tuple(inputs[0].shape)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = asr.transcribe_file(tmp_path / "long.wav", policy=FixedExit(1))
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 100  # the waveform alone is 119 MB, and the file is read in blocks
    assert max(batch for batch, _ in batches) <= 4
    assert max(samples for _, samples in batches) <= 30 * RATE
    assert len(result.parts) >= 62
    assert result.macs == sum(part.macs for part in result.parts)
    assert result.text == " ".join(part.text for part in result.parts if part.text)
    assert result.exit_layer == 1


def test_parts_of_a_file_are_those_of_its_waveform(asr, tmp_path, monkeypatch):
    monkeypatch.setattr("ee_runtime.transcriber.MAX_CHUNK_S", 20.0)
    monkeypatch.setattr("ee_runtime.audio.recording.BLOCK_VALUES", 100_000)
    stereo = np.stack([noise(45).numpy(), noise(45).numpy() / 2], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44101, subtype="FLOAT")
    parts = list(asr.read_parts(tmp_path / "a.wav"))
    whole = asr.load_audio(tmp_path / "a.wav")
    assert len(parts) == 1 and np.array_equal(parts[0], whole.numpy())
    monkeypatch.setattr("ee_runtime.transcriber.MAX_CHUNK_S", 5.0)
    parts = list(asr.read_parts(tmp_path / "a.wav"))
    assert len(parts) >= 4
    assert all(np.array_equal(one, two.numpy()) for one, two in zip(parts, asr.cut(whole), strict=True))


@pytest.mark.parametrize("kind", [np.float64, np.int16, np.float16])
def test_waveforms_as_soundfile_gives_them(asr, kind):
    samples = (noise(0.5) * 3000).round().clamp(-32768, 32767).numpy()
    given = samples.astype(np.int16) if kind is np.int16 else (samples / 32768).astype(kind)
    wanted = asr.transcribe_waveforms([torch.from_numpy((samples / 32768).astype(np.float32))])
    found = asr.transcribe_waveforms([given])
    assert found[0].text == wanted[0].text
    if kind is not np.float16:  # which has 11 bits
        assert found == wanted
        assert asr.transcribe_batch(given[None], [1.0]) == asr.transcribe_batch(given[None], np.ones(1)) == wanted


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda asr: asr.transcribe_waveforms(np.zeros(3000)), "give a list of waveforms"),
        (lambda asr: asr.transcribe_waveforms([np.zeros((2, 3000))]), r"shapes \[\(2, 3000\)\]"),
        (lambda asr: asr.transcribe_waveforms([torch.full((3000,), 20000.0)]), "samples up to 2e.04"),
        (lambda asr: asr.transcribe_batch(torch.full((1, 3000), torch.nan), torch.ones(1)), "NaN or infinite"),
        (lambda asr: asr.transcribe_batch(np.zeros((1, 3000), np.uint8), [1.0]), "type uint8"),
    ],
)
def test_waveforms_that_are_none_are_refused(asr, call, message):
    with pytest.raises(ValueError, match=message):
        call(asr)


def test_joined_parts_take_the_deepest_exit(asr, tmp_path, monkeypatch):
    monkeypatch.setattr("ee_runtime.transcriber.MAX_CHUNK_S", 0.25)
    soundfile.write(tmp_path / "a.wav", noise(0.6).numpy(), RATE)
    result = asr.transcribe_file(tmp_path / "a.wav", policy=StopByDuration())
    layers = [part.exit_layer for part in result.parts]
    assert len(layers) >= 3 and len(set(layers)) > 1
    assert result.exit_layer == max(layers)
    assert result.policy_value is None


def test_config_is_plain_json(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["encoder"]["exit_layers"] == [1, 2, 4]
    assert config["blank_index"] == 0
    assert make_tokenizer(folder).vocab_size == config["heads"]["vocab_size"]


@pytest.mark.parametrize("source", ["results/typo", "/no/such", "./run", "../run", "~/run", "run", "a/b/c", "results/"])
def test_a_mistyped_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    if source == "results/":
        (tmp_path / "results").rmdir()
    monkeypatch.setattr("speechbrain_ee.inference.source.download", lambda *_, **__: pytest.fail("looked online"))
    with pytest.raises(ModelError, match="no such folder; give a run folder, a model folder or a Hub name"):
        EarlyExitASR.from_hparams(source)


def test_limits_of_a_call(asr):
    waveforms = [noise(0.3), noise(0.2, seed=1)]
    take = lambda **limits: [one.exit_layer for one in asr.transcribe_waveforms(waveforms, **limits)]  # noqa: E731
    assert take() == [4, 4]
    assert take(max_layer=3) == [2, 2]
    assert take(budget=1.0) == [1, 1]
    macs = exit_macs(asr.mods.encoder, asr.mods.heads, asr.mods.features.num_frames(int(0.3 * RATE)))
    assert take(budget=macs[1] / 0.3 * 1.001)[0] == 2
    assert take(deadline_ms=1e9) == [4, 4]
    assert take(deadline_ms=1e-6) == [1, 1]
    assert take(policy=FixedExit(1), deadline_ms=1e9) == [1, 1]
    with pytest.raises(ValueError, match="max_layer is"):
        take(max_layer=0.5)
    with pytest.raises(TypeError):
        take(max_layers=3)


def test_heads_that_a_limit_does_not_need_are_not_run(asr):
    run = []
    for index, head in enumerate(asr.mods.heads.heads):
        head.register_forward_hook(lambda _, inputs, __, index=index: run.append((index, len(inputs[0]))))
    waveforms = [noise(0.3), noise(0.2, seed=1)]
    macs = exit_macs(asr.mods.encoder, asr.mods.heads, asr.mods.features.num_frames(int(0.3 * RATE)))
    for limits, expected in (
        ({"max_layer": 3}, [(1, 2)]),
        ({"budget": 1e12}, [(2, 2)]),
        ({"budget": 1.0}, [(0, 2)]),
        ({"budget": macs[1] / 0.3 * 1.001}, [(0, 1), (1, 1)]),  # a short utterance costs more per second
    ):
        run.clear()
        results = asr.transcribe_waveforms(waveforms, policy=FixedExit(), **limits)
        assert run == expected, limits
    encoder, heads = asr.mods.encoder, asr.mods.heads
    assert results[0].macs == exit_macs(encoder, heads, 31, heads_run=1)[1]


def test_an_utterance_that_a_limit_stops_gives_what_its_exit_gives(asr):
    waveforms = [noise(0.3), noise(0.2, seed=1), noise(0.25, seed=2)]
    (alone,) = asr.transcribe_waveforms(waveforms[:1], policy=FixedExit(2))
    macs = exit_macs(asr.mods.encoder, asr.mods.heads, asr.mods.features.num_frames(int(0.3 * RATE)))
    results = asr.transcribe_waveforms(waveforms, policy=FixedExit(), budget=macs[1] / 0.3 * 1.001)
    assert results[0].exit_layer == 2 and {one.exit_layer for one in results} > {2}
    assert results[0].text == alone.text and results[0].macs == alone.macs


def test_times_are_measured_once_for_a_decoder_and_its_scores(asr, caplog):
    times = asr.time_exits()
    assert len(times["seconds_to_exit"]) == 3
    at_10_s = [offset + 10 * slope for offset, slope in times["seconds_to_exit"]]
    assert 0 < at_10_s[0] < at_10_s[2]
    offset, slope = times["seconds_to_text"]
    assert offset + 10 * slope > 0
    asr.transcribe_waveforms([noise(0.1)], deadline_ms=1e9)
    assert "measured this machine" not in caplog.text
    asr.transcribe_waveforms([noise(0.1)], deadline_ms=1e9, policy=ScoreThreshold("entropy", 0.1))
    assert "the first call with a deadline measured this machine, which took" in caplog.text


def test_the_text_of_a_beam_takes_its_time_and_is_not_counted_twice(asr):
    class Slow(type(asr.decoder)):
        name = "slow"

        def decode(self, output):
            time.sleep(0.02)
            return [replace(one, scores={"posterior": 0.5}) for one in super().decode(output)]

    asr.decoder = Slow(asr.hparams.tokenizer)
    times = asr.time_exits()
    offset, slope = times["seconds_to_text"]
    assert offset + 2 * slope >= 0.02
    looked = asr.time_exits(ScoreThreshold("posterior", 0.9))
    assert looked["seconds_to_text"] == [0.0, 0.0]
    assert looked["seconds_to_exit"][2][0] + 2 * looked["seconds_to_exit"][2][1] >= 3 * 0.02


def test_a_deadline_goes_by_the_measured_times(asr, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr("speechbrain_ee.inference.asr.time.perf_counter", lambda: next(now))  # each look takes a second
    times = {"seconds_to_exit": [(0.0, 2.0), (0.0, 3.0), (0.0, 5.0)], "seconds_to_text": [0.0, 0.2]}
    asr._times[asr.decoder.name, ()] = times
    # after layer 1, 1 s has passed; the next takes 0.5 s for 0.5 s of audio, the one after that 1 s, a text 0.1 s
    assert asr.transcribe_waveforms([noise(0.5)], deadline_ms=1700)[0].exit_layer == 2
    assert asr.transcribe_waveforms([noise(0.5)], deadline_ms=1550)[0].exit_layer == 1


def test_a_load_that_rises_is_in_the_deadlines_of_later_calls(asr, monkeypatch):
    clock = SimpleNamespace(now=0.0, step=1.0)

    def tick():
        clock.now += clock.step
        return clock.now

    def take(*, step):
        """Return the exit if each segment takes a number of seconds; one was measured."""
        clock.step = step
        return asr.transcribe_waveforms([noise(0.5)], deadline_ms=3500)[0].exit_layer

    monkeypatch.setattr("speechbrain_ee.inference.asr.time.perf_counter", tick)
    asr._times[asr.decoder.name, ()] = {"seconds_to_exit": [(1.0, 0.0), (2.0, 0.0), (3.0, 0.0)]}
    assert [take(step=step) for step in (1.0, 2.0, 2.0, 1.0)] == [4, 1, 1, 1]
    assert [take(step=1.0) for _ in range(400)][-1] == 4  # the load is forgotten


def test_limits_may_change_between_segments(asr):
    layers = iter([4, 2, 4, None])
    assert asr.transcribe_waveforms([noise(0.5)], max_layer=lambda: next(layers))[0].exit_layer == 2
    assert asr.transcribe_waveforms([noise(0.5)], max_layer=lambda: next(layers))[0].exit_layer == 4
    budgets = iter([None, 1.0])
    assert asr.transcribe_waveforms([noise(0.5)], budget=lambda: next(budgets))[0].exit_layer == 2
    deadlines = iter([1e9, 1e-6])
    assert asr.transcribe_waveforms([noise(0.5)], deadline_ms=lambda: next(deadlines))[0].exit_layer == 2
    late = iter([np.float32(1e9), -3])  # the deadline has passed in the meantime
    assert asr.transcribe_waveforms([noise(0.5)], deadline_ms=lambda: next(late))[0].exit_layer == 2
    with pytest.raises(ValueError, match="the function max_layer returned nan: return a number, or None for no limit"):
        asr.transcribe_waveforms([noise(0.5)], max_layer=lambda: float("nan"))
    with pytest.raises(ValueError, match="budget is -1: give a number above 0"):
        asr.transcribe_waveforms([noise(0.5)], budget=-1)


def test_a_calibration_of_ones_own(folder, tmp_path):
    (tmp_path / "other").mkdir()
    write_calibration(folder, {"policy": FixedExit(1).to_dict()})
    write_calibration(tmp_path / "other", {"policy": FixedExit(2).to_dict(), "model": None})
    asr = EarlyExitASR.from_hparams(folder, calibration_file=tmp_path / "other" / "calibration.json")
    assert asr.policy.layer == 2
    assert EarlyExitASR.from_hparams(folder).policy.layer == 1
    write_calibration(folder, {"policy": FixedExit(1).to_dict(), "model": asr.fingerprint})
    assert EarlyExitASR.from_hparams(folder).calibration["model"] == asr.fingerprint
    write_calibration(folder, {"policy": FixedExit(1).to_dict(), "model": "0" * 16})
    with pytest.raises(ValueError, match="belongs to another model or vocabulary"):
        EarlyExitASR.from_hparams(folder)


@pytest.fixture
def aed(tmp_path):
    return make_asr(tmp_path, "conformer_aed")


def count_starts(asr, monkeypatch):
    """Count the utterances that each exit's attention decoder has decoded."""
    starts = [0] * len(asr.mods.heads.decoders)
    start = AttentionDecoder.start

    def counted(self, states, lengths):
        starts[list(asr.mods.heads.decoders).index(self)] += len(states)
        return start(self, states, lengths)

    monkeypatch.setattr(AttentionDecoder, "start", counted)
    return starts


@pytest.mark.parametrize("decoding", ["greedy", "beam", "rescore"])
def test_the_decoder_runs_once_at_the_exit_taken(aed, monkeypatch, decoding):
    aed.decoder = aed.make_decoder(decoding)
    waveforms = [noise(0.2 + 0.1 * index, seed=index) for index in range(8)]
    entropies = [
        aed.transcribe_waveforms([one], policy=ScoreThreshold("entropy", 2.0))[0].policy_value for one in waveforms
    ]
    starts = count_starts(aed, monkeypatch)
    results = aed.transcribe_waveforms(waveforms, policy=ScoreThreshold("entropy", sorted(entropies)[4]))
    taken = [result.exit_layer for result in results]
    assert starts == [taken.count(layer) for layer in aed.exit_layers]
    assert len(set(taken)) > 1


def test_no_decoder_runs_where_ctc_gives_the_text(aed, monkeypatch):
    starts = count_starts(aed, monkeypatch)
    aed.decoder = aed.make_decoder("ctc")
    aed.transcribe_waveforms([noise(0.3)])
    assert starts == [0, 0, 0]


def test_a_score_of_the_decoder_is_paid_for_at_every_exit_looked_at(aed, monkeypatch):
    full, looked = FixedExit(), ScoreThreshold("attention_entropy", -1.0)
    (alone,), starts = aed.transcribe_waveforms([noise(0.3)], policy=full), count_starts(aed, monkeypatch)
    (result,) = aed.transcribe_waveforms([noise(0.3)], policy=looked)
    assert starts == [1, 1, 1]  # the last text is not decoded again
    heads = exit_macs(aed.mods.encoder, aed.mods.heads, 31)
    heads_alone = exit_macs(aed.mods.encoder, aed.mods.heads, 31, heads_run=1)
    assert result.macs - heads[2] > alone.macs - heads_alone[2] > 0
    assert result.text == alone.text and 0 < result.policy_value <= 1


def test_a_score_that_the_decoding_does_not_give_is_refused(asr, aed):
    for model, score, source in (
        (asr, "attention_entropy", "an attention decoder"),
        (aed, "posterior", "a beam search"),
    ):
        with pytest.raises(ValueError, match=f"{score}' comes from {source}"):
            model.transcribe_waveforms([noise(0.3)], policy=ScoreThreshold(score, 0.5))


def test_a_deadline_counts_the_padding_of_features(tmp_path):
    asr = make_asr(tmp_path, "whisper")
    asr.mods.features = WhisperLogMel(n_mels=20, pad_s=4)
    policy = StopByDuration()
    asr.transcribe_waveforms([noise(0.5), noise(0.5)], policy=policy)
    assert policy.looks[0].facts["duration"] == 0.5
    assert policy.looks[0].facts["batch_duration"] == policy.looks[0].facts["call_duration"] == 8.0


def test_padded_features_do_not_stretch_the_times_of_words(tmp_path):
    asr = make_asr(tmp_path, "whisper")
    asr.mods.features = WhisperLogMel(n_mels=20, pad_s=4)
    (result,) = asr.transcribe_waveforms([noise(0.5)])
    assert result.words, "else nothing is tested"
    assert all(0 <= word.start <= word.end <= 0.5 for word in result.words)
    spans = asr.decoder.decode(asr_output(asr, noise(0.5)))[0].spans
    assert result.words[0].end == pytest.approx(min(0.5, spans[0].end * 0.02))  # whisper's frames are of 20 ms


def asr_output(asr, waveform):
    feats, frames = asr.mods.features(waveform[None], torch.tensor([len(waveform)]))
    states, lengths = asr.mods.encoder(feats, frames)
    return asr.mods.heads(states, lengths)[-1]
