# SPDX-License-Identifier: Apache-2.0
"""The command that transcribes a manifest: output, messages and exit status."""

import importlib.util
import json
import sys

import pytest
from runtime.bench.tiny_export import write_export
from unit.bulk.cases import write_manifest

from ee_runtime.threads import available_cpus, default_threads
from speechbrain_ee.bulk.batch import TranscribeBatch
from speechbrain_ee.cli import app as cli


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run the command on a manifest as a shell does, but in this process; keywords replace the options."""
    options = {"model": write_export(tmp_path / "export"), "manifest": write_manifest(tmp_path)}
    options["out"] = tmp_path / "texts.jsonl"

    def call(*more, **changed):
        given = [f"--{name}={value}" for name, value in (options | changed).items() if value is not None]
        monkeypatch.setattr(sys, "argv", ["speechbrain-ee", "transcribe", *given, *map(str, more)])
        with pytest.raises(SystemExit) as raised:
            cli.main()
        out, err = capsys.readouterr()
        return raised.value.code, out, err

    return call


def texts(tmp_path):
    return [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text("utf-8").splitlines()]


def test_a_manifest_becomes_a_file_of_texts(command, tmp_path):
    status, out, err = command()
    assert (status, out) == (0, "")
    assert [line["id"] for line in texts(tmp_path)] == [f"{number:02}" for number in range(12)]
    assert "h of audio per hour" in err
    assert f"{tmp_path}/texts.jsonl: 12 files, 12 transcribed now in 0." in err.splitlines()[-1]
    status, _, err = command()
    assert status == 0
    assert err.splitlines()[-1] == f"{tmp_path}/texts.jsonl: 12 files, 0 transcribed now"


def test_the_options_of_the_policy_apply(command, tmp_path):
    assert command("--layer", 1)[0] == 0
    assert {line["exit_layer"] for line in texts(tmp_path)} == {1}
    status, _, err = command("--full")
    assert status == 1
    (error,) = [line for line in err.splitlines() if "error" in line]
    assert error.startswith(f"speechbrain-ee: error: {tmp_path}/texts.jsonl.state has texts of another policy: give")


def test_failed_files_are_status_1_and_one_line_each(command, tmp_path):
    for name in ("02.wav", "07.wav"):
        (tmp_path / name).write_bytes(b"no audio")
    status, _, err = command()
    assert status == 1
    errors = [line for line in err.splitlines() if line.startswith("speechbrain-ee: error: ")]
    assert len(errors) == 2 and "02.wav" in errors[0] and "07.wav" in errors[1]
    assert err.splitlines()[-1].endswith("2 failed (run the same command again to retry)")
    assert [number for number, line in enumerate(texts(tmp_path)) if "error" in line] == [2, 7]


def test_an_empty_manifest_is_one_line(command, tmp_path):
    (tmp_path / "m.jsonl").write_text("")
    status, _, err = command()
    assert (status, err.count("\n")) == (1, 1)
    assert "has no utterances: give a manifest with at least one line" in err
    assert not (tmp_path / "texts.jsonl.state").exists()


def test_a_csv_without_texts_and_durations(command, tmp_path):
    (tmp_path / "m.csv").write_text("ID,wav\nb,01.wav\na,00.wav\n")
    assert command(manifest=tmp_path / "m.csv")[0] == 0
    assert [line["id"] for line in texts(tmp_path)] == ["b", "a"]


def test_ctrl_c_says_how_to_resume(command, tmp_path, monkeypatch):
    def interrupt(*_):  # as Ctrl-C does; the signal itself is ignored where tests run in the background
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TranscribeBatch, "__call__", interrupt)
        status, _, err = command()
    assert status == 130
    assert err.splitlines()[-1] == "speechbrain-ee: interrupted: run the same command again to resume"
    assert command()[0] == 0


@pytest.mark.parametrize(
    ("more", "changed", "message"),
    [
        ([], {"out": None}, "--manifest needs --out"),
        ([], {"manifest": None}, "give audio files, or --manifest and --out"),
        (["a.wav"], {"manifest": None}, "--out is for --manifest"),
        (["a.wav"], {}, "FILE cannot be used with --manifest"),
        (["--json"], {}, "--json cannot be used with --manifest"),
        (["--deadline-ms", 5], {}, "--deadline-ms cannot be used with --manifest"),
        (["--processes", 0], {}, "--processes"),
        (["--batch-seconds", 0], {}, "--batch-seconds"),
        (["--address", "auto"], {}, "add --engine ray"),
        (["--engine", "spark"], {}, "--engine"),
    ],
)
def test_bad_calls_are_status_2(command, more, changed, message):
    status, out, err = command(*more, **changed)
    assert status == 2
    assert message in out + err


@pytest.mark.parametrize("name", ["processes", "engine", "address"])
def test_options_of_a_manifest_are_not_ignored_without_one(command, name):
    value = {"processes": 2, "engine": "ray", "address": "auto"}[name]
    status, _, err = command("a.wav", manifest=None, out=None, **{name: value})
    assert status == 2 and f"--{name} is for --manifest" in err


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_ray_that_is_not_installed_is_one_line(command):
    status, _, err = command("--engine", "ray")
    assert status == 1
    assert "--engine ray needs Ray" in err and "pip install 'speechbrain_ee[ray]'" in err.splitlines()[-1]


@pytest.mark.parametrize(("given", "processes", "expected"), [(None, 1, available_cpus()), (3, 2, 3), (None, 10**6, 1)])
def test_processes_share_the_cpus(command, tmp_path, monkeypatch, given, processes, expected):
    found = {}

    def noting(work, *_, **__):
        found.update(vars(work.options))
        raise ValueError("seen")

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("speechbrain_ee.bulk.transcribe.transcribe_manifest", noting)
    command("--processes", processes, *(["--threads", given] if given else []))
    assert found["threads"] == expected
    assert default_threads(2) == max(1, available_cpus() // 2)
