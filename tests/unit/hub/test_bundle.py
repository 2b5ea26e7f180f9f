# SPDX-License-Identifier: Apache-2.0
"""Bundles: complete, reproducible, without secrets, and never written over something else."""

import json
import shutil

import pytest
from hub import files_of
from typer.testing import CliRunner
from unit.cases import three_utterances

from speechbrain_ee.cli.app import app
from speechbrain_ee.evaluation.tables import write_exits
from speechbrain_ee.hub.bundle import make_bundle
from speechbrain_ee.hub.card import CardFacts
from speechbrain_ee.hub.contents import check_contents, check_private, private_words, write_contents
from speechbrain_ee.hub.stock import STOCK_FILES
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.model.folder import MODEL_FILES, ModelError

AUTHOR = CardFacts(hub_name="user/tiny", languages=["en"], datasets={"user/data": "cc-by-4.0"})


@pytest.fixture
def run(run_folder, tmp_path):
    """A copy of the run folder that a test may change."""
    shutil.copytree(run_folder, tmp_path / "run")
    return tmp_path / "run"


def test_a_bundle_has_these_files(made, run_folder):
    results = [f"eval/{name}/exits.{ending}" for name in ("dev", "test") for ending in ("json", "png")]
    expected = {*MODEL_FILES, *STOCK_FILES, "calibration.json", *results, "LICENSE", "README.md", "bundle.json"}
    files = files_of(made)
    assert set(files) == expected
    for name in (*MODEL_FILES, *results):
        assert files[name] == (run_folder / name).read_bytes(), name
    assert "Apache License" in files["LICENSE"].decode()


def test_the_same_run_gives_the_same_bytes(made, run, tmp_path):
    make_bundle(run, tmp_path / "again", author=AUTHOR)
    assert files_of(tmp_path / "again") == files_of(made)


def test_the_bundle_is_the_model_with_its_calibration(made, run_folder):
    ours, original = EarlyExitASR.from_hparams(made), EarlyExitASR.from_hparams(run_folder)
    assert ours.fingerprint == original.fingerprint and ours.calibration == original.calibration


@pytest.mark.parametrize("word", ["CKPT", "optimizer", "utterances.jsonl", "hypothesis", "ab ce"])
def test_checkpoints_and_texts_are_left_out(run, tmp_path, word):
    (run / "save" / "CKPT+1").mkdir(parents=True)
    (run / "save" / "CKPT+1" / "optimizer.ckpt").write_bytes(b"optimizer")
    (run / "eval" / "test" / "utterances.jsonl").write_text('{"hypothesis": "ab ce"}')
    make_bundle(run, tmp_path / "out", author=AUTHOR)
    for name, data in files_of(tmp_path / "out").items():
        assert word not in name and word.encode() not in data, name


def test_a_path_of_this_machine_is_refused_by_name(run, tmp_path):
    calibration = json.loads((run / "calibration.json").read_text())
    calibration["fitted_on"]["test_set"] = str(run / "dev.jsonl")
    (run / "calibration.json").write_text(json.dumps(calibration))
    with pytest.raises(ValueError, match="(README.md|calibration.json) would publish /.*: remove it from the source"):
        make_bundle(run, tmp_path / "out", author=AUTHOR)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out-*"))


def test_private_words_are_folders_that_say_something(run, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert "/home/somebody" in private_words(run) and str(run) in private_words(run)
    monkeypatch.setenv("HOME", "/root")
    assert "/root" not in private_words(run)


def test_words_are_found_in_binary_files(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\0\xff/home/somebody\0")
    check_private(tmp_path, ["/home/nobody"])
    with pytest.raises(ValueError, match="a.bin would publish /home/somebody"):
        check_private(tmp_path, ["/home/somebody"])


def test_results_of_another_model_and_incomplete_ones_are_refused(run, tmp_path):
    options = {"test_set": "new", "decoding": "greedy CTC", "params": None}
    write_exits(run / "eval" / "new", three_utterances(), model="0123456789abcdef", **options)
    with pytest.raises(ValueError, match="new/exits.json has the results of another model: evaluate the set again"):
        make_bundle(run, tmp_path / "out", author=AUTHOR)
    fingerprint = EarlyExitASR.from_hparams(run).fingerprint
    write_exits(run / "eval" / "new", three_utterances(), model=fingerprint, missing={"x": "broken"}, **options)
    with pytest.raises(ValueError, match="new/exits.json lacks 1 utterances .* choose other sets with --test-set"):
        make_bundle(run, tmp_path / "out", author=AUTHOR)
    assert make_bundle(run, tmp_path / "out", author=AUTHOR, sets=["test"]).sets == ["test"]
    with pytest.raises(ValueError, match="no evaluated set typo: choose from dev, new, test"):
        make_bundle(run, tmp_path / "out", author=AUTHOR, sets=["typo"])


def test_a_calibration_of_another_model_is_refused(run, tmp_path):
    calibration = json.loads((run / "calibration.json").read_text())
    (run / "calibration.json").write_text(json.dumps(calibration | {"model": "0123456789abcdef"}))
    with pytest.raises(ValueError, match="belongs to another model"):
        make_bundle(run, tmp_path / "out", author=AUTHOR)


def test_an_unchanged_bundle_is_replaced_and_everything_else_stays(run, tmp_path):
    out = tmp_path / "out"
    make_bundle(run, out, author=AUTHOR)
    make_bundle(run, out, author=AUTHOR, layer=1)
    assert "Exit layer 1 of" in (out / "hyperparams.yaml").read_text()
    before = files_of(out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="out is not replaced, .* do not belong to the bundle: notes.txt: give"):
        make_bundle(run, out, author=AUTHOR)
    (out / "notes.txt").unlink()
    (out / "README.md").write_text("my own words")
    with pytest.raises(ValueError, match="out is not replaced, .* changed after the bundle was made: README.md: give"):
        make_bundle(run, out, author=AUTHOR)
    with pytest.raises(ValueError, match="run is not replaced, .*run is no bundle, since it has no bundle.json: give"):
        make_bundle(run, run, author=AUTHOR)
    assert files_of(out) == before | {"README.md": b"my own words"}


def test_an_error_leaves_the_earlier_bundle_as_it_was(run, tmp_path):
    make_bundle(run, tmp_path / "out", author=AUTHOR)
    before = files_of(tmp_path / "out")
    with pytest.raises(ValueError, match="layer 3 is not an exit"):
        make_bundle(run, tmp_path / "out", author=AUTHOR, layer=3)
    (run / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError):
        make_bundle(run, tmp_path / "out", author=AUTHOR)
    assert files_of(tmp_path / "out") == before and not list(tmp_path.glob(".out-*"))


def test_another_licence_needs_its_text(run, tmp_path):
    author = CardFacts(hub_name="user/tiny", license="cc-by-4.0")
    with pytest.raises(ValueError, match="licence cc-by-4.0: give its text with --license-file"):
        make_bundle(run, tmp_path / "out", author=author)
    (tmp_path / "text").write_text("Attribution 4.0")
    make_bundle(run, tmp_path / "out", author=author, license_file=tmp_path / "text")
    assert (tmp_path / "out" / "LICENSE").read_text() == "Attribution 4.0"
    assert "\nlicense: cc-by-4.0\n" in (tmp_path / "out" / "README.md").read_text()


def test_the_licence_is_that_of_this_package(made, pytestconfig):
    assert (made / "LICENSE").read_bytes() == (pytestconfig.rootpath / "LICENSE").read_bytes()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "bundle.json").unlink(), "is no bundle, since it has no bundle.json"),
        (lambda folder: (folder / "bundle.json").write_text("[]"), "bundle.json is not of format 1"),
        (lambda folder: (folder / "bundle.json").write_text("{"), "bundle.json: .*: make the bundle again"),
        (lambda folder: (folder / "bundle.json").write_text('{"format": 1}'), "bundle.json lists no files"),
        (lambda folder: (folder / "LICENSE").unlink(), "lacks files of the bundle: LICENSE"),
        (lambda folder: (folder / "eval" / "x.txt").touch(), "do not belong to the bundle: eval/x.txt"),
        (lambda folder: (folder / "a").symlink_to("/etc/passwd"), "a is a symbolic link"),
        (lambda folder: (folder / "a").symlink_to(folder / "eval"), "a is a symbolic link"),
        (lambda folder: (folder / "config.json").write_text("{}"), "changed after the bundle was made: config.json"),
    ],
)
def test_only_an_unchanged_bundle_passes(bundle, change, told):
    change(bundle)
    with pytest.raises(ValueError, match=told) as raised:
        check_contents(bundle)
    assert "\n" not in str(raised.value)


def test_contents_are_written_again_with_the_same_bytes(bundle):
    before = (bundle / "bundle.json").read_bytes()
    write_contents(bundle)
    assert (bundle / "bundle.json").read_bytes() == before


def test_the_command(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["bundle", str(run), "--out", "tiny", "--exit", "2", "--dataset", "user/data"])
    assert done.exit_code == 0, done.output
    assert "does not say the language (--language en)" in done.stderr
    assert "the licence of user/data (--dataset user/data=LICENCE)" in done.stderr
    assert "results of: dev, test" in done.stderr and "speechbrain-ee push tiny USER/tiny" in done.stderr
    assert "the examples of the model card are for USER/tiny: give --hub-name" in done.stderr
    assert 'EncoderASR.from_hparams("USER/tiny")' in (tmp_path / "tiny" / "README.md").read_text()
    for arguments in (["--int8"], ["--dataset", "=mit"]):
        assert CliRunner().invoke(app, ["bundle", str(run), "--out", "other", *arguments]).exit_code == 2
    missing = CliRunner().invoke(app, ["bundle", "no-such-run", "--out", "other"])
    assert missing.exit_code == 1 and "no-such-run: no such folder" in str(missing.exception)
