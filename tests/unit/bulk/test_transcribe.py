# SPDX-License-Identifier: Apache-2.0
"""Runs over a manifest: what they write, how they resume, and what they refuse."""

import errno
import json
import os
import resource
import secrets
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from unit.bulk.cases import BATCH_SECONDS, NUM_FILES, RATE, Killing, read, wait_for
from unit.models import make_asr

from ee_runtime.calibration.file import write_calibration
from ee_runtime.policies import FixedExit, RunningBudget, ScoreThreshold
from ee_runtime.runtime import EarlyExitRuntime
from speechbrain_ee.bulk.batch import TranscribeBatch, TranscribeWork
from speechbrain_ee.bulk.engines import Processes
from speechbrain_ee.bulk.model_options import ModelOptions
from speechbrain_ee.bulk.state import State
from speechbrain_ee.files import only_process
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.model.folder import save_model

NUM_BATCHES = 8
CER_MAPS = {"cer": {str(layer): {"x": [0.0, 1.0], "y": [12.5, 12.5]} for layer in (1, 2, 3, 4)}}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "texts.jsonl"


def lines(out):
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()]


def recorded(out):
    """How often the state has a text of each position."""
    state = (out.parent / "texts.jsonl.state").read_text("utf-8").splitlines()[1:]
    batches = [json.loads(line).get("batch", []) for line in state if line]
    return Counter(position for batch in batches for position, _, row in batch if "text" in row)


def stop_after(monkeypatch, number):
    """Ctrl-C in the batch after so many; lasts until undone."""
    calls, run = [], TranscribeBatch.__call__

    def stopping(self, paths):
        if len(calls) == number:
            raise KeyboardInterrupt
        calls.append(paths)
        return run(self, paths)

    monkeypatch.setattr(TranscribeBatch, "__call__", stopping)


def test_every_file_has_a_line_in_the_order_of_the_manifest(transcribe, manifest, out, export, decoded):
    summary = transcribe(out)
    assert (summary.transcribed, summary.failed) == (NUM_FILES, 0)
    assert summary.audio_s == pytest.approx(sum(one["duration"] for one in lines(out)))
    assert len(decoded) == NUM_BATCHES and {len(batch) for batch in decoded} == {1, 2, 3}
    model = EarlyExitRuntime(export)
    for line, one in zip(lines(out), read(manifest), strict=True):
        alone = model.transcribe_file(one.audio_filepath)
        assert list(line)[:5] == ["id", "audio_filepath", "speaker", "duration", "text"]
        assert (line["id"], line["audio_filepath"], line["speaker"]) == (one.id, str(one.audio_filepath), one.speaker)
        assert (line["text"], line["exit_layer"], line["macs"]) == (alone.text, alone.exit_layer, alone.macs)
        assert [word["text"] for word in line["words"]] == line["text"].split()
        assert line["duration"] == pytest.approx(soundfile.info(one.audio_filepath).duration, abs=1e-4)
    assert len({line["text"] for line in lines(out)}) > 1, "else nothing is tested"
    assert sorted(path.name for path in out.parent.iterdir()) == ["texts.jsonl", "texts.jsonl.state"]


def test_parts_of_a_recording_give_the_lines_of_files(transcribe, manifest, tmp_path):
    """The same file, and the same part of it, may be in a batch more than once."""
    pieces = [soundfile.read(one.audio_filepath, dtype="float32")[0] for one in read(manifest)]
    soundfile.write(tmp_path / "all.wav", np.concatenate(pieces), RATE, subtype="FLOAT")
    rows, start = [], 0
    for number, piece in enumerate(pieces):
        row = {"id": f"{number:02}", "audio_filepath": "all.wav", "offset": start / RATE, "duration": len(piece) / RATE}
        rows += [row | {"speaker": f"s{number % 2}"}]
        start += len(piece)
    (tmp_path / "parts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[3] | {"id": "again"}]))
    transcribe(tmp_path / "files.txt")
    transcribe(tmp_path / "parts.txt", utterances=read(tmp_path / "parts.jsonl"))
    *parts, again = lines(tmp_path / "parts.txt")
    for line, expected, row in zip(parts, lines(tmp_path / "files.txt"), rows, strict=True):
        assert line.pop("offset") == row["offset"]
        assert line.pop("audio_filepath") == str(tmp_path / "all.wav") != expected.pop("audio_filepath")
        assert line == expected
    assert (again["text"], again["offset"]) == (parts[3]["text"], rows[3]["offset"])


@pytest.mark.parametrize("part", [{"start": 800, "stop": 2400}, {"offset": 0.05}])
def test_a_part_of_a_file_that_is_missing_is_one_failed_file(transcribe, manifest, out, decoded, part):
    """Its times are known when the file is there; then only it is decoded."""
    rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    rows[4] |= part
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    away = (manifest.parent / "04.wav").rename(manifest.parent / "away")
    summary = transcribe(out)
    assert (summary.transcribed, summary.failed) == (NUM_FILES - 1, 1) and "does not exist" in lines(out)[4]["error"]
    away.rename(manifest.parent / "04.wav")
    decoded.clear()
    assert transcribe(out).transcribed == 1 and len(decoded) == 1
    assert lines(out)[4]["offset"] == 0.05


def test_the_texts_are_a_manifest(whole, tmp_path):
    utterances = read(tmp_path / "whole" / "texts.jsonl")
    assert [one.text for one in utterances] == [line["text"] for line in lines(tmp_path / "whole" / "texts.jsonl")]


def test_a_run_that_is_done_decodes_nothing_again(transcribe, whole, tmp_path, decoded):
    summary = transcribe(tmp_path / "whole" / "texts.jsonl")
    assert (summary.transcribed, summary.failed, decoded) == (0, 0, [])
    assert (tmp_path / "whole" / "texts.jsonl").read_bytes() == whole


@pytest.mark.parametrize("number", range(NUM_BATCHES))
def test_a_stopped_run_resumes_and_equals_an_uninterrupted_one(transcribe, whole, out, decoded, monkeypatch, number):
    with monkeypatch.context() as patch:
        stop_after(patch, number)
        with pytest.raises(KeyboardInterrupt):
            transcribe(out)
    assert not out.exists()
    transcribe(out)
    assert out.read_bytes() == whole
    names = Counter(name for batch in decoded for name in batch)
    assert len(names) == NUM_FILES and set(names.values()) == {1}, "a finished file is not decoded again"


def test_a_line_that_a_kill_cut_off_is_ignored(transcribe, whole, out):
    transcribe(out)
    state = out.parent / "texts.jsonl.state"
    complete = state.read_bytes()
    last = complete.rindex(b"\n", 0, -1)
    for end in range(last, len(complete), 97):
        state.write_bytes(complete[:end])
        out.unlink()
        transcribe(out)
        assert out.read_bytes() == whole
        assert set(recorded_after_cut(state).values()) == {1}


def recorded_after_cut(state):
    """How often a complete line of the state has each position."""
    found = Counter()
    for line in state.read_text("utf-8").splitlines()[1:]:
        try:
            found.update(position for position, *_ in json.loads(line).get("batch", []))
        except ValueError:
            continue
    return found


def test_a_kill_at_a_random_moment_loses_and_repeats_nothing(transcribe, whole, out, export, manifest):
    """A process kills the one that started it; the others end, and the next run has all texts."""
    out.parent.mkdir()
    after = secrets.randbelow(NUM_BATCHES // 2)  # of the batches of one of the two processes
    command = [sys.executable, "-m", "unit.bulk.cases", str(export), str(manifest), str(out), str(after)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=100)
    assert done.returncode == -9, done.stderr.decode()
    assert not out.exists(), f"killed after {after} batches of one process"
    numbers = [int(path.name.rpartition("-")[2]) for path in out.parent.glob("process-*")]
    assert numbers and wait_for(lambda: not any(map(runs, numbers))), "processes outlive the one that started them"
    before = recorded(out)
    transcribe(out)
    assert out.read_bytes() == whole, f"killed after {after} batches of one process, {len(before)} files"
    assert set(recorded(out).values()) == {1} and before.keys() <= recorded(out).keys()


def runs(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_processes_write_what_one_writes(transcribe, whole, out):
    transcribe(out, engine=Processes(2))
    assert out.read_bytes() == whole


def test_a_killed_process_is_one_line_and_the_next_run_resumes(transcribe, whole, out, work):
    out.parent.mkdir()
    killing = Killing(work.options, folder=out.parent, after=1)
    with pytest.raises(ValueError, match="one of the processes was killed.*run the same command again to resume"):
        transcribe(out, work=killing, engine=Processes(2))
    transcribe(out, engine=Processes(2))
    assert out.read_bytes() == whole
    assert set(recorded(out).values()) == {1}


def test_a_model_in_another_process_must_be_the_same(transcribe, out, work):
    settings = work.open().settings
    for name in ("model", "code", "policy", "confidence"):
        with pytest.raises(ValueError, match=f"a process has another {name} than the first"):
            work.expecting(settings | {name: "another"}).open()
    work.expecting(settings).open()


def test_a_broken_file_has_an_error_and_is_tried_again(transcribe, manifest, whole, out, decoded, capsys):
    good = (manifest.parent / "05.wav").read_bytes()
    (manifest.parent / "05.wav").write_bytes(b"no audio")
    for _ in range(2):
        summary = transcribe(out, program="speechbrain-ee")
        assert summary.failed == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert line.startswith("speechbrain-ee: error: audio ") and "05.wav" in line
        broken = lines(out)[5]
        assert list(broken) == ["id", "audio_filepath", "speaker", "error"] and "05.wav" in broken["error"]
    assert decoded[-2:] == [["05.wav"]] * 2 and len(decoded) == NUM_BATCHES + 2, "alone, once in each run"
    (manifest.parent / "05.wav").write_bytes(good)
    assert transcribe(out).transcribed == 1
    expected = [json.loads(line) for line in whole.splitlines()]
    for line, other in zip(lines(out), expected, strict=True):
        assert line == other | {"score": line["score"]}


def test_a_file_that_breaks_behind_its_header_leaves_its_batch(transcribe, manifest, whole, out, decoded):
    """Its neighbours are not run one by one."""
    data = (manifest.parent / "05.wav").read_bytes()
    (manifest.parent / "05.wav").write_bytes(data[:-4] + np.float32(np.nan).tobytes())
    assert transcribe(out).failed == 1
    assert len(decoded) == NUM_BATCHES
    assert "error" in lines(out)[5]
    assert [line["text"] for line in lines(out) if "text" in line] == [
        json.loads(line)["text"] for number, line in enumerate(whole.splitlines()) if number != 5
    ]


def test_a_file_that_was_replaced_is_decoded_again(transcribe, manifest, out, decoded):
    transcribe(out)
    before, decoded[:] = lines(out), []
    soundfile.write(manifest.parent / "03.wav", np.random.default_rng(99).standard_normal(4000) / 10, RATE)
    transcribe(out)
    assert decoded == [["03.wav"]]
    assert [number for number, pair in enumerate(zip(before, lines(out), strict=True)) if pair[0] != pair[1]] == [3]


def test_texts_that_could_not_be_written_are_written_by_the_next_run(transcribe, manifest, whole, out, monkeypatch):
    good = (manifest.parent / "05.wav").read_bytes()
    (manifest.parent / "05.wav").write_bytes(b"no audio")
    transcribe(out)
    (manifest.parent / "05.wav").write_bytes(good)
    with monkeypatch.context() as patch:
        patch.setattr(State, "write_out", lambda self: (_ for _ in ()).throw(OSError("no space")))
        with pytest.raises(OSError, match="no space"):
            transcribe(out)
    assert "error" in lines(out)[5]
    assert transcribe(out).transcribed == 0
    assert [line["text"] for line in lines(out)] == [json.loads(line)["text"] for line in whole.splitlines()]


def test_texts_that_another_program_has_changed_are_not_replaced(transcribe, out):
    transcribe(out)
    out.write_text("mine")
    with pytest.raises(ValueError, match="texts.jsonl has been changed since it was written: move it away"):
        transcribe(out)
    assert out.read_text() == "mine"


def test_texts_of_files_whose_drive_is_away_are_kept(transcribe, manifest, whole, tmp_path, decoded, capsys):
    utterances = read(manifest)
    for one in utterances[:3]:
        one.audio_filepath.rename(one.audio_filepath.with_suffix(".away"))
    summary = transcribe(tmp_path / "whole" / "texts.jsonl", utterances=utterances)
    assert (summary.transcribed, summary.failed, decoded) == (0, 0, [])
    assert "3 files are not there any more: their texts are kept" in capsys.readouterr().err
    assert (tmp_path / "whole" / "texts.jsonl").read_bytes() == whole


@pytest.mark.parametrize("part", [{"start": 800, "stop": 2400}, {"offset": 0.05}, {"offset": 0.05, "duration": 0.1}])
def test_the_text_of_a_part_whose_drive_is_away_keeps_its_offset(transcribe, manifest, out, part):
    rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    rows[4] |= part
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    transcribe(out)
    before = out.read_bytes()
    assert lines(out)[4]["offset"] == 0.05
    (manifest.parent / "04.wav").unlink()
    transcribe(out)
    assert out.read_bytes() == before
    rows[4] |= {"start": 801} if "start" in part else {"offset": 0.06}
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with pytest.raises(ValueError, match="texts of another manifest"):
        transcribe(out)
    assert out.read_bytes() == before


def test_a_file_that_is_replaced_while_its_batch_runs_is_decoded_again(transcribe, manifest, out, decoded, monkeypatch):
    other = np.random.default_rng(99).standard_normal(4000) / 10
    with monkeypatch.context() as patch:
        run = TranscribeBatch._alone

        def replacing(self, paths):
            found = run(self, paths)
            if paths[0].endswith("07.wav"):
                soundfile.write(manifest.parent / "07.wav", other, RATE)
            return found

        patch.setattr(TranscribeBatch, "_alone", replacing)
        transcribe(out, batch_seconds=0.1)
    decoded.clear()
    transcribe(out, batch_seconds=0.1)
    assert decoded == [["07.wav"]]
    assert lines(out)[7]["duration"] == 0.25


def test_the_parts_of_long_recordings_fill_batches_of_the_given_length(transcribe, manifest, out, monkeypatch):
    computed, run = [], EarlyExitRuntime.transcribe_waveforms

    def noting(self, waveforms, **options):
        computed.append(len(waveforms) * max(map(len, waveforms)) / RATE)
        return run(self, waveforms, **options)

    monkeypatch.setattr(EarlyExitRuntime, "transcribe_waveforms", noting)
    for number in range(4):
        noise = np.random.default_rng(number).standard_normal(34 * RATE) / 10
        soundfile.write(manifest.parent / f"{number:02}.wav", noise, RATE)
    transcribe(out, batch_seconds=140.0)
    assert 70 < max(computed) <= 140


def test_the_policy_is_said_and_the_expected_cer_is_written(transcribe, work, export, out, capsys):
    write_calibration(export, {"policy": ScoreThreshold("entropy", 0.8).to_dict(), "confidence": CER_MAPS})
    transcribe(out, work=work)
    assert 'policy: {"policy": "score_threshold", "score": "entropy", "threshold": 0.8}' in capsys.readouterr().err
    assert {line["expected_cer"] for line in lines(out)} == {12.5}


def test_long_recordings_alone_and_in_a_batch(transcribe, manifest, out, export):
    for name, seconds in (("00.wav", 31.0), ("01.wav", 70.0)):
        noise = np.random.default_rng(5).standard_normal(int(seconds * RATE)) / 10
        soundfile.write(manifest.parent / name, noise, RATE)
    transcribe(out, batch_seconds=100.0)
    model = EarlyExitRuntime(export)
    for line, one in zip(lines(out), read(manifest), strict=True):
        assert line["text"] == model.transcribe_file(one.audio_filepath).text
    assert [round(line["duration"]) for line in lines(out)[:2]] == [31, 70]


def test_a_model_of_torch_and_its_calibration(manifest, tmp_path, out, transcribe):
    asr = make_asr(tmp_path)
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    write_calibration(tmp_path / "model", {"policy": ScoreThreshold("entropy", 0.8).to_dict()})
    transcribe(out, work=TranscribeWork(ModelOptions(str(tmp_path / "model"))))
    model = EarlyExitASR.from_hparams(tmp_path / "model")
    for line, one in zip(lines(out), read(manifest), strict=True):
        alone = model.transcribe_file(one.audio_filepath)
        assert (line["text"], line["exit_layer"]) == (alone.text, alone.exit_layer)
    torch.set_grad_enabled(True)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda work: {"work": TranscribeWork(replace(work.options, policy=FixedExit(1)))}, "policy"),
        (lambda work: {"work": replace(work, limits={"max_layer": 1})}, "policy"),
        (lambda work: {"work": TranscribeWork(replace(work.options, decoding="beam"))}, "decoding"),
        (lambda _: {"batch_seconds": 5.0}, "batch_seconds"),
    ],
)
def test_other_settings_are_not_mixed(transcribe, whole, tmp_path, work, change, name):
    with pytest.raises(ValueError, match=f"texts of another {name}: give the same as before or another --out"):
        transcribe(tmp_path / "whole" / "texts.jsonl", **change(work))
    assert (tmp_path / "whole" / "texts.jsonl").read_bytes() == whole


def test_another_manifest_and_another_model_are_not_mixed(transcribe, whole, tmp_path, manifest, export):
    out = tmp_path / "whole" / "texts.jsonl"
    with pytest.raises(ValueError, match="texts of another manifest"):
        transcribe(out, utterances=read(manifest)[1:])
    contents = json.loads((export / "export.json").read_text())
    (export / "export.json").write_text(json.dumps(contents | {"model": "1" * 16}))
    with pytest.raises(ValueError, match="texts of another model"):
        transcribe(out)


def test_a_file_of_someone_else_is_not_overwritten(transcribe, out):
    out.parent.mkdir()
    out.write_text("mine")
    with pytest.raises(ValueError, match="texts.jsonl exists, but not texts.jsonl.state"):
        transcribe(out)
    assert out.read_text() == "mine"


def test_a_broken_state_is_refused(transcribe, whole, tmp_path):
    (tmp_path / "whole" / "texts.jsonl.state").write_bytes(b"{}\n")
    with pytest.raises(ValueError, match="texts.jsonl.state is broken: remove it and texts.jsonl"):
        transcribe(tmp_path / "whole" / "texts.jsonl")


def test_two_runs_into_one_file_are_refused(transcribe, out):
    out.parent.mkdir()
    with only_process(out.parent / "texts.jsonl.lock", doing="writing"):
        with pytest.raises(ValueError, match="another process is writing .*texts.jsonl: wait for it to end"):
            transcribe(out)
    transcribe(out)


def test_a_full_disk_is_one_line_and_the_next_run_resumes(transcribe, whole, out, tmp_path):
    size = (tmp_path / "whole" / "texts.jsonl.state").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, limits[1]))  # the largest file; the last line is cut off
    try:
        with pytest.raises(OSError, match="cannot write .*texts.jsonl.state") as raised:
            transcribe(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.errno == errno.EFBIG
    transcribe(out)
    assert out.read_bytes() == whole


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_folder_without_permission(transcribe, out):
    out.parent.mkdir(mode=0o500)
    with pytest.raises(OSError, match="cannot write .*texts.jsonl.lock: Permission denied"):
        transcribe(out)


def test_places_that_cannot_be_written(transcribe, tmp_path, manifest):
    with pytest.raises(ValueError, match="is a folder: give a file as --out"):
        transcribe(tmp_path)
    with pytest.raises(ValueError, match="cannot be a folder, since .*m.jsonl is a file: give another path"):
        transcribe(manifest / "texts.jsonl")
    with pytest.raises(ValueError, match="/dev/null is no regular file: give a file as --out"):
        transcribe(os.devnull)
    if os.path.isdir("/proc/self"):
        with pytest.raises(OSError, match="cannot write /proc/texts.jsonl.lock"):
            transcribe("/proc/texts.jsonl")


def test_a_link_is_written_where_it_leads(transcribe, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "elsewhere" / "texts.jsonl")
    transcribe(tmp_path / "link.jsonl")
    assert (tmp_path / "link.jsonl").is_symlink() and len(lines(tmp_path / "elsewhere" / "texts.jsonl")) == NUM_FILES


def test_texts_that_would_depend_on_the_order_are_refused(transcribe, out, work):
    policy = RunningBudget(ScoreThreshold("entropy", 0.5), thresholds=[0.0, 1.0], macs_per_s=1e6)
    with pytest.raises(ValueError, match="with the policy running_budget, texts would depend on the order"):
        transcribe(out, work=TranscribeWork(replace(work.options, policy=policy)))
    assert not (out.parent / "texts.jsonl.state").exists()


def test_batches_above_zero(transcribe, out):
    with pytest.raises(ValueError, match="batch_seconds=0: give a number of seconds above 0"):
        transcribe(out, batch_seconds=0)
    assert BATCH_SECONDS > 0
