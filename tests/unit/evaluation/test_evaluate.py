# SPDX-License-Identifier: Apache-2.0
"""One pass over a test set."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from unit.models import make_asr, make_joint_heads

from ee_runtime.calibration.file import write_calibration
from ee_runtime.policies import FixedExit, Policy
from ee_runtime.policies.scores import COMPUTED, FROM_ATTENTION
from speechbrain_ee.bulk.engines import Processes
from speechbrain_ee.bulk.model_options import ModelOptions
from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.evaluation.batch import EvaluateWork, evaluate_batch
from speechbrain_ee.evaluation.evaluate import LOCK, _key, evaluate
from speechbrain_ee.evaluation.partial_results import PartialResults
from speechbrain_ee.evaluation.real_time_factor import _beginning, real_time_factors
from speechbrain_ee.evaluation.tables import exits_table
from speechbrain_ee.files import only_process
from speechbrain_ee.lobes import WhisperLogMel
from speechbrain_ee.lobes.cost import exit_macs, exit_parameters
from speechbrain_ee.model.folder import save_model
from speechbrain_ee.replay.replay import replay, static_wer
from speechbrain_ee.replay.utterances import read_utterances

RATE = 16000
SECONDS = (0.5, 0.1, 0.9, 0.3, 0.05, 0.7)
TEXTS = ("the cat sat", "a hat", "a fat rat sat", "the", "", "a cat")


@pytest.fixture
def utterances(tmp_path):
    found = []
    for index, (seconds, text) in enumerate(zip(SECONDS, TEXTS, strict=True)):
        path = tmp_path / f"{index}.wav"
        generator = torch.Generator().manual_seed(index)
        waveform = torch.randn(int(seconds * RATE), generator=generator) * 0.1
        soundfile.write(path, waveform.numpy(), RATE, subtype="FLOAT")
        found.append(Utterance(f"u{index}", path, seconds, text, speaker=f"s{index % 2}"))
    return found


@pytest.fixture
def asr(tmp_path):
    return make_asr(tmp_path)


def lines(folder):
    return [json.loads(line) for line in (folder / "utterances.jsonl").read_text().splitlines()]


def test_files_have_the_keys_of_the_contract(asr, utterances, tmp_path):
    exits = evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0.5)
    names = {"utterances.jsonl", "exits.json", "exits.csv", "exits.png", "policies.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for line, utterance in zip(lines(tmp_path / "out"), utterances, strict=True):  # in the manifest's order
        keys = ["id", "audio_filepath", "speaker", "duration", "reference", "num_words", "num_chars", "exits"]
        assert list(line) == keys
        values = [utterance.id, str(utterance.audio_filepath), utterance.speaker, utterance.duration, utterance.text]
        assert list(line.values())[:5] == values
        assert line["num_words"] == len(utterance.text.split())
        assert line["num_chars"] == len(" ".join(utterance.text.split()))
        assert [one["layer"] for one in line["exits"]] == [1, 2, 4]
        for one in line["exits"]:
            keys = ["layer", "hypothesis", "errors", "char_errors", "scores", "macs", "static_macs", "word_confidence"]
            assert list(one) == keys
            assert len(one["word_confidence"]) == len(one["hypothesis"].split())
            assert all(0 <= confidence <= 1 for confidence in one["word_confidence"])
            assert set(one["errors"]) == set(one["char_errors"]) == {"S", "D", "I"}
            assert set(one["scores"]) == set(COMPUTED)
    assert json.loads((tmp_path / "out" / "exits.json").read_text()) == exits
    top = ["test_set", "decoding", "error_unit", "num_utterances", "num_words", "num_chars", "duration_s", "oracle"]
    assert set(top) <= exits.keys()
    assert set(exits["exits"][0]) == {"layer", "wer", "wer_ci95", "cer", "params", "macs_per_s", "rtf"}
    assert set(exits["oracle"]) == {"wer", "mean_layer"}


def test_exits_json_follows_from_utterances_jsonl(asr, utterances, tmp_path):
    exits = evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0)
    cache = read_utterances(tmp_path / "out" / "utterances.jsonl")
    assert (exits["num_utterances"], exits["num_words"]) == (6, 12)
    assert exits["duration_s"] == pytest.approx(sum(SECONDS))
    wers = static_wer(cache)
    params = exit_parameters(asr.mods.encoder, asr.mods.heads)
    for index, row in enumerate(exits["exits"]):
        errors = sum(sum(line["exits"][index]["errors"].values()) for line in cache)
        assert row["wer"] == pytest.approx(100 * errors / 12) == pytest.approx(wers[row["layer"]])
        macs = sum(line["exits"][index]["static_macs"] for line in cache)
        assert row["macs_per_s"] == pytest.approx(macs / sum(SECONDS))
        assert row["params"] == params[index]
        assert row["rtf"] is None
    assert "machine" not in exits


def test_hypotheses_and_macs_are_those_of_a_live_run(asr, utterances, tmp_path):
    evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0)
    for line, utterance in zip(lines(tmp_path / "out"), utterances, strict=True):
        frames = asr.mods.features.num_frames(int(utterance.duration * RATE))
        for index, one in enumerate(line["exits"]):
            live = asr.transcribe_file(utterance.audio_filepath, policy=FixedExit(one["layer"]))
            assert one["hypothesis"] == live.text
            assert one["macs"] == exit_macs(asr.mods.encoder, asr.mods.heads, frames)[index]


def test_replay_of_a_duration_policy_is_the_live_run(asr, utterances, tmp_path):
    class LongIsDeep(Policy):
        def needs_head(self, exit_index, exit_layers):
            return True

        def stop(self, look):
            return look.facts["duration"] < 0.4 * (look.exit_index + 1)

    evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0)
    cache = read_utterances(tmp_path / "out" / "utterances.jsonl")
    replayed = [asr.exit_layers[index] for index in replay(LongIsDeep(), cache).exit_indices]
    waveforms = [asr.load_audio(utterance.audio_filepath) for utterance in utterances]
    live = [result.exit_layer for result in asr.transcribe_waveforms(waveforms, policy=LongIsDeep())]
    assert live == replayed == [2, 1, 4, 1, 1, 2]


@pytest.mark.parametrize("batch_seconds", [0.01, 1.0, 1.9])
def test_scores_and_texts_do_not_depend_on_the_batches(asr, utterances, tmp_path, batch_seconds):
    for name, seconds in (("one", 100.0), ("other", batch_seconds)):
        evaluate(asr, utterances, tmp_path / name, test_set="tiny", rtf_seconds=0, batch_seconds=seconds)
    for one, other in zip(lines(tmp_path / "one"), lines(tmp_path / "other"), strict=True):
        for left, right in zip(one["exits"], other["exits"], strict=True):
            assert left["hypothesis"] == right["hypothesis"]
            assert left["scores"] == pytest.approx(right["scores"], abs=1e-5)


def test_silence_behind_short_utterances_counts(utterances, tmp_path):
    asr = make_asr(tmp_path, "whisper")
    asr.mods.features = WhisperLogMel(n_mels=20, pad_s=2)
    sizes = []
    asr.mods.features.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0, batch_seconds=4.0)
    assert sizes == [2, 2, 2]


class Stop:
    """Ends an evaluation behind so many batches, as Ctrl-C or a kill does."""

    def __init__(self, asr, after):
        self.calls, self.after = 0, after
        self.hook = asr.mods.features.register_forward_pre_hook(self)

    def __call__(self, *_):
        if self.calls == self.after:
            raise KeyboardInterrupt
        self.calls += 1


def stopped(asr, utterances, out, after, **options):
    stop = Stop(asr, after)
    with pytest.raises(KeyboardInterrupt):
        evaluate(asr, utterances, out, test_set="tiny", rtf_seconds=0, batch_seconds=1.0, **options)
    stop.hook.remove()


def again(asr, utterances, out, **options):
    """Run an evaluation to its end; gives the number of batches that were run."""
    count = Stop(asr, None)
    evaluate(asr, utterances, out, test_set="tiny", rtf_seconds=0, **{"batch_seconds": 1.0, **options})
    count.hook.remove()
    return count.calls


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("family", ["conformer", "conformer_aed"])
def test_a_stopped_evaluation_is_continued_and_equals_an_uninterrupted_one(tmp_path, utterances, after, family, caplog):
    asr = make_asr(tmp_path, family)
    total = again(asr, utterances, tmp_path / "whole")
    stopped(asr, utterances, tmp_path / "out", after)
    assert not (tmp_path / "out" / "exits.json").exists()
    assert again(asr, utterances, tmp_path / "out") == total - after
    assert (f"{min(after, 2)} of 6 utterances are already in" in caplog.text) == (after > 0)
    for name in ("utterances.jsonl", "exits.json", "policies.json", "exits.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert names(tmp_path / "out") == names(tmp_path / "whole")


def test_a_line_that_a_kill_cut_off_is_computed_again(asr, utterances, tmp_path):
    total = again(asr, utterances, tmp_path / "whole")
    stopped(asr, utterances, tmp_path / "out", 2)
    (part,) = (tmp_path / "out").glob("utterances.part-*.jsonl")
    part.write_bytes(part.read_bytes()[:-20])
    assert again(asr, utterances, tmp_path / "out") == total - 1
    assert lines(tmp_path / "out") == lines(tmp_path / "whole")


def test_results_of_another_model_decoding_or_code_are_not_continued(asr, utterances, tmp_path, monkeypatch):
    total = again(asr, utterances, tmp_path / "whole")
    stopped(asr, utterances, tmp_path / "out", 2)
    asr.decoder = asr.make_decoder("beam", beam_size=2)
    stopped(asr, utterances, tmp_path / "out", 0)
    asr.decoder = asr.make_decoder("greedy")
    asr.mods.heads.heads[0][1].bias.data += 1.0
    stopped(asr, utterances, tmp_path / "out", 0)
    asr.mods.heads.heads[0][1].bias.data -= 1.0
    with monkeypatch.context() as patch:
        patch.setattr("speechbrain_ee.inference.settings.code_version", lambda *_, **__: "another")
        stopped(asr, utterances, tmp_path / "out", 0)
    assert len(list((tmp_path / "out").glob("utterances.part-*"))) == 4
    changed = [replace(utterances[2], text="the hat"), *utterances[:2], *utterances[3:]]
    assert again(asr, changed, tmp_path / "out") == total - 1  # the longest, alone in its batch, has another reference
    assert not list((tmp_path / "out").glob("utterances.part-*"))


def test_another_language_model_of_the_same_name_is_not_continued(asr, tmp_path):
    keys = []
    for text in ("one", "another"):
        (tmp_path / "lm.arpa").write_text(text)
        asr.decoder.lm_file = tmp_path / "lm.arpa"
        keys.append(_key(asr))
    assert len(set(keys)) == 2


def break_body(path):
    """Damage a FLAC file in its middle, which its header and its end do not tell."""
    samples, _ = soundfile.read(path)
    soundfile.write(path.with_suffix(".flac"), samples, RATE, format="FLAC")
    content = path.with_suffix(".flac").read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(500) + content[middle + 500 :])


def test_a_broken_file_costs_one_file_and_once_mended_only_its_batch(asr, utterances, tmp_path):
    total = again(asr, utterances, tmp_path / "whole")
    good = utterances[2].audio_filepath.read_bytes()
    break_body(utterances[2].audio_filepath)
    exits = evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0.5, batch_seconds=1.0)
    assert list(exits["missing"]) == ["u2"] and "2.wav" in exits["missing"]["u2"]
    assert exits["num_utterances"] == 5
    assert "1 of 6 utterances are missing" in exits_table(exits)
    assert [line["id"] for line in lines(tmp_path / "out")] == ["u0", "u1", "u3", "u4", "u5"]
    utterances[2].audio_filepath.write_bytes(good)
    assert again(asr, utterances, tmp_path / "out") == 1 < total
    assert lines(tmp_path / "out") == lines(tmp_path / "whole")
    assert "missing" not in json.loads((tmp_path / "out" / "exits.json").read_text())
    assert not list((tmp_path / "out").glob("utterances.part-*"))


@pytest.mark.parametrize("error", [RuntimeError("out of\nmemory"), MemoryError()])
def test_an_utterance_that_fails_does_not_take_its_batch_along(asr, utterances, tmp_path, error):
    def fail(_, inputs):
        if inputs[1].max() > 80 * 160:  # samples of the longest
            raise error

    hook = asr.mods.features.register_forward_pre_hook(fail)
    exits = evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0)
    assert exits["missing"] == {"u2": "out of memory" if str(error) else "MemoryError"}
    assert len(lines(tmp_path / "out")) == 5
    hook.remove()
    evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0)
    assert len(lines(tmp_path / "out")) == 6


def test_where_everything_fails_nothing_is_written(asr, utterances, tmp_path):
    def fail(*_):
        raise RuntimeError("no kernel")

    asr.mods.features.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="tiny: no utterance could be evaluated .first: u2: no kernel"):
        evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0)
    assert not (tmp_path / "out" / "exits.json").exists()


def test_two_evaluations_into_one_folder_are_refused(asr, utterances, tmp_path):
    (tmp_path / "out").mkdir()
    lock = only_process(tmp_path / "out" / LOCK, doing="evaluating into a folder")
    with lock, pytest.raises(ValueError, match="another process is evaluating into .*--out"):
        evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0)
    evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0)


def test_a_folder_on_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def without(self):
        raise NotImplementedError("no locks")

    monkeypatch.setattr("filelock.FileLock._acquire", without)
    with pytest.raises(OSError, match="is on a file system without locks: give another --out"):
        with only_process(tmp_path / LOCK, doing="writing"):
            pass


def test_real_time_factors_are_measured_on_one_thread(asr, utterances):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = real_time_factors(asr, utterances, seconds=0.55, num_runs=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert len(found["rtf"]) == 3
    assert all(0 < rtf < math.inf for rtf in found["rtf"])
    assert found["machine"]["threads"] == 1
    assert found["machine"]["device"] == asr.device
    assert found["machine"]["gemm_gflops"] > 0


def test_the_real_time_factor_is_measured_over_no_more_than_was_asked_for(asr, utterances, monkeypatch):
    timed = []
    monkeypatch.setattr(asr, "transcribe_waveforms", lambda waveforms, policy: timed.append(len(waveforms[0])))
    real_time_factors(asr, utterances[2:], seconds=1.0, num_runs=1)
    assert timed == [int(0.9 * RATE), int(0.1 * RATE)] * 3, "the second utterance is cut"


def test_of_a_long_recording_only_the_beginning_is_read_for_the_real_time_factor(tmp_path):
    path = tmp_path / "long.flac"
    soundfile.write(path, torch.rand(120 * RATE).numpy(), RATE)
    break_body(path)
    one = Utterance("long", path, 120.0, "the cat")
    assert len(_beginning(one, RATE, 2 * RATE)) == 2 * RATE
    with pytest.raises(ValueError, match="is damaged between"):
        _beginning(one, RATE, 120 * RATE)


def test_real_time_factors_reach_exits_json_with_the_machine(asr, utterances, tmp_path):
    exits = evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0.5)
    assert all(row["rtf"] > 0 for row in exits["exits"])
    assert {"cpu", "threads", "gemm_gflops", "device"} <= exits["machine"].keys()


def test_an_unreadable_file_is_named_before_anything_runs(asr, utterances, tmp_path):
    calls = []
    asr.mods.features.register_forward_hook(lambda *_: calls.append(1))
    utterances[2].audio_filepath.write_bytes(b"no audio")
    with pytest.raises(ValueError, match="1 of 6 utterances have no usable audio .first: u2: ") as raised:
        evaluate(asr, utterances, tmp_path / "out", test_set="tiny")
    assert "\n" not in str(raised.value)
    assert calls == []
    assert not (tmp_path / "out").exists()


def test_a_wrong_duration_in_the_manifest_is_corrected(asr, utterances, tmp_path):
    wrong = [replace(utterances[0], duration=50.0), *utterances[1:]]
    exits = evaluate(asr, wrong, tmp_path / "out", test_set="tiny", rtf_seconds=0)
    assert exits["duration_s"] == pytest.approx(sum(SECONDS))


@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_references_without_words_are_refused(asr, utterances, tmp_path, texts):
    wordless = [replace(one, text=text) for one, text in zip(utterances, texts, strict=False)]
    with pytest.raises(ValueError, match="tiny: no reference has a word"):
        evaluate(asr, wordless, tmp_path / "out", test_set="tiny")


def test_a_long_recording_is_evaluated_as_it_is_transcribed(tmp_path):
    asr = make_asr(tmp_path)
    path = tmp_path / "long.wav"
    noise = torch.randn(65 * RATE, generator=torch.Generator().manual_seed(2)) * 0.1
    soundfile.write(path, noise.numpy(), RATE)
    (line,) = evaluate_batch(asr, [Utterance("long", path, 65.0, "the cat")])
    assert line["parts"] == len(asr.cut(asr.load_audio(path))) > 1, "which a calibration refuses"
    for one in line["exits"]:
        said = asr.transcribe_file(path, policy=FixedExit(one["layer"]))
        assert len(said.parts) == 3
        assert one["hypothesis"] == said.text
        assert 0 < one["scores"]["entropy"] < 1
        assert one["macs"] >= said.macs > 0
    assert any(one["hypothesis"] for one in line["exits"])


def test_attention_and_ctc_stand_side_by_side(utterances, tmp_path):
    asr = make_asr(tmp_path, "conformer_aed")
    exits = evaluate(asr, utterances, tmp_path / "out", test_set="tiny", rtf_seconds=0)
    assert exits["decoding"] == "greedy attention"
    assert " CTC WER % " in exits_table(exits).splitlines()[0]
    cache = read_utterances(tmp_path / "out" / "utterances.jsonl")
    ctc = make_asr(tmp_path, "conformer_aed")
    ctc.decoder = ctc.make_decoder("ctc")
    for line, utterance in zip(cache, utterances, strict=True):
        for one in line["exits"]:
            policy = FixedExit(one["layer"])
            live = asr.transcribe_file(utterance.audio_filepath, policy=policy)
            assert (one["hypothesis"], one["static_macs"]) == (live.text, live.macs)
            by_ctc = ctc.transcribe_file(utterance.audio_filepath, policy=policy)
            assert (one["ctc"]["hypothesis"], one["static_macs"] - one["decoder_macs"]) == (by_ctc.text, by_ctc.macs)
            assert set(one["scores"]) == {*COMPUTED, *FROM_ATTENTION} and one["decoder_macs"] > 0
    for index, row in enumerate(exits["exits"]):
        errors = sum(sum(line["exits"][index]["ctc"]["errors"].values()) for line in cache)
        assert row["wer_ctc"] == pytest.approx(100 * errors / 12)
    assert any(one["ctc"]["hypothesis"] != one["hypothesis"] for line in cache for one in line["exits"])


def test_where_only_some_exits_have_a_decoder_everything_that_follows_works(tmp_path, utterances):
    asr = make_asr(tmp_path, "conformer_aed")
    asr.mods["heads"] = make_joint_heads(asr.exit_layers, asr.hparams.tokenizer.vocab_size, decoders_at=[4])
    many = [replace(one, id=f"{one.id}-{copy}") for copy in range(4) for one in utterances]
    exits = evaluate(asr, many, tmp_path / "out", test_set="tiny", rtf_seconds=0)
    first, _, last = exits["exits"]
    assert first["wer_ctc"] == first["wer"]
    assert last["params"] > first["params"]
    cache = read_utterances(tmp_path / "out" / "utterances.jsonl")
    assert cache[0]["exits"][0]["decoder_macs"] == 0 < cache[0]["exits"][2]["decoder_macs"]
    assert math.isnan(cache[0]["exits"][0]["scores"]["attention_entropy"])
    with pytest.raises(ValueError, match="attention_entropy has no value at any exit"):  # but the last, too late
        calibrate(cache, score="attention_entropy", target={"mean_cost": 0.8})
    for score in ("entropy", "learned"):
        found = calibrate(cache, score=score, target={"mean_cost": 0.8})
        assert found["score"] == score
        write_calibration(tmp_path, found)  # plain JSON


@pytest.fixture
def parts(utterances, tmp_path):
    """The same utterances as parts of one recording, which has a second between them."""
    pieces, offsets = [], []
    for utterance in utterances:
        offsets.append(sum(map(len, pieces)) / RATE)
        pieces += [soundfile.read(utterance.audio_filepath, dtype="float32")[0], np.full(RATE, 0.5, np.float32)]
    soundfile.write(tmp_path / "all.wav", np.concatenate(pieces), RATE, subtype="FLOAT")
    return [
        replace(one, audio_filepath=tmp_path / "all.wav", offset=offset)
        for one, offset in zip(utterances, offsets, strict=True)
    ]


def test_parts_of_a_recording_give_the_lines_of_files(asr, utterances, parts, tmp_path):
    exits = {}
    for name, some in (("files", utterances), ("parts", parts)):
        exits[name] = evaluate(asr, some, tmp_path / name, test_set="tiny", rtf_seconds=0)
    for line, expected, one in zip(lines(tmp_path / "parts"), lines(tmp_path / "files"), parts, strict=True):
        assert list(line)[:3] == ["id", "audio_filepath", "offset"]
        assert line.pop("offset") == one.offset
        assert line.pop("audio_filepath") == str(one.audio_filepath) != expected.pop("audio_filepath")
        assert line == expected
    assert exits["parts"] == exits["files"]


def test_a_line_of_another_part_is_computed_again(parts, tmp_path):
    one, line = parts[0], {"reference": parts[0].text, "exits": []}
    line |= {"id": one.id, "audio_filepath": str(one.audio_filepath), "speaker": one.speaker, "duration": one.duration}
    with PartialResults(tmp_path, "0123") as partial:
        partial.append([one], [line])
    assert list(partial.of([one])) == [one.id]
    for other in (replace(one, offset=one.offset + 0.1), replace(one, channel=0), replace(one, offset=None)):
        assert partial.of([other]) == {}


def test_the_real_time_factor_is_measured_on_the_part(parts):
    found = _beginning(parts[2], RATE, 100 * RATE)
    assert len(found) == round(SECONDS[2] * RATE) and 0.5 not in found


def test_results_of_another_set_are_not_replaced(asr, utterances, tmp_path, caplog):
    again(asr, utterances, tmp_path / "out")
    before = lines(tmp_path / "out")
    shutil.copy(utterances[0].audio_filepath, tmp_path / "other.wav")
    other = replace(utterances[0], id="other", audio_filepath=tmp_path / "other.wav")
    with pytest.raises(ValueError, match="has results of another set .its first utterance: u0.: rename the manifest"):
        again(asr, [other], tmp_path / "out")
    assert lines(tmp_path / "out") == before
    again(asr, utterances[1:], tmp_path / "out")
    assert "1 of 6 utterances with results are not in this manifest" in caplog.text


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_processes_evaluate_as_one(asr, utterances, tmp_path, one_thread):
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    options = ModelOptions(str(tmp_path / "model"), policy=FixedExit(), threads=1)
    broken = [*utterances, replace(utterances[0], id="nan", audio_filepath=write_nan(tmp_path))]
    found = []
    for name, engine in (("one", None), ("two", Processes(2))):
        out = tmp_path / name
        how = {"engine": engine, "work": EvaluateWork(options), "batch_seconds": 1.0}
        found.append(evaluate(options.open(), broken, out, test_set="tiny", rtf_seconds=0, **how))
    assert found[0] == found[1] and list(found[0]["missing"]) == ["nan"]
    assert lines(tmp_path / "one") == lines(tmp_path / "two")


def write_nan(folder):
    path = folder / "nan.wav"
    soundfile.write(path, [0.1, float("nan")] * 4000, RATE, subtype="FLOAT")
    return path
