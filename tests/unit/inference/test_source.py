# SPDX-License-Identifier: Apache-2.0
"""Sources of models: folders with another model, folders that hide a Hub name, and pointers of Git LFS."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from speechbrain.utils.fetching import FetchConfig, LocalStrategy
from unit.models import make_asr

from ee_runtime.calibration.file import write_calibration
from ee_runtime.policies import FixedExit
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.inference.source import SOURCE_FILE, ModelSource
from speechbrain_ee.model.folder import MODEL_FILES, ModelError, save_model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 6401960\n"


@pytest.fixture
def folder(tmp_path):
    asr = make_asr(tmp_path)
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    return tmp_path / "model"


@pytest.fixture
def other(folder, tmp_path):
    """Another model of the same shape."""
    shutil.copytree(folder, tmp_path / "other")
    weights = load_file(folder / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, tmp_path / "other" / "model.safetensors")
    return tmp_path / "other"


@pytest.mark.parametrize("strategy", [LocalStrategy.SYMLINK, LocalStrategy.COPY])
def test_a_savedir_of_another_model_is_refused(folder, other, tmp_path, strategy):
    EarlyExitASR.from_hparams(folder, savedir=tmp_path / "d", local_strategy=strategy)
    with pytest.raises(ModelError, match="d has config.json of .*model, not of .*other: empty it"):
        EarlyExitASR.from_hparams(other, savedir=tmp_path / "d", local_strategy=strategy)
    again = EarlyExitASR.from_hparams(folder, savedir=tmp_path / "d", local_strategy=strategy)
    assert again.fingerprint == EarlyExitASR.from_hparams(folder).fingerprint
    options = {"savedir": tmp_path / "d", "local_strategy": strategy, "fetch_config": FetchConfig(overwrite=True)}
    taken = EarlyExitASR.from_hparams(other, **options)
    assert taken.fingerprint == EarlyExitASR.from_hparams(other).fingerprint != again.fingerprint


@pytest.mark.parametrize("there", MODEL_FILES)
@pytest.mark.parametrize("state", ["foreign", "dangling", "folder"])
def test_one_foreign_file_in_a_savedir_is_enough(folder, tmp_path, there, state):
    place = tmp_path / "d" / there
    place.parent.mkdir()
    if state == "foreign":
        place.write_bytes(b"of another model")
    elif state == "dangling":
        place.symlink_to(tmp_path / "gone")
    else:
        place.mkdir()
    with pytest.raises(ModelError, match=f"d has {there} of another model, not of"):
        EarlyExitASR.from_hparams(folder, savedir=tmp_path / "d")


def test_a_savedir_with_files_of_its_own_is_taken(folder, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "notes.txt").write_text("mine")
    shutil.copy(folder / "config.json", tmp_path / "d")  # as an earlier version left it, without a note
    EarlyExitASR.from_hparams(folder, savedir=tmp_path / "d")
    assert json.loads((tmp_path / "d" / SOURCE_FILE).read_text())["source"] == str(folder.resolve())
    EarlyExitASR.from_hparams(folder, savedir=folder)
    assert not (folder / SOURCE_FILE).exists()


@pytest.mark.parametrize("strategy", [LocalStrategy.SYMLINK, LocalStrategy.COPY])
def test_a_model_that_was_trained_on_is_linked_or_copied_anew(folder, other, tmp_path, strategy):
    before = EarlyExitASR.from_hparams(folder, savedir=tmp_path / "d", local_strategy=strategy).fingerprint
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    after = EarlyExitASR.from_hparams(folder, savedir=tmp_path / "d", local_strategy=strategy).fingerprint
    assert before != after == EarlyExitASR.from_hparams(other).fingerprint


@pytest.mark.parametrize("name", [*MODEL_FILES, "calibration.json"])
def test_a_pointer_of_git_lfs_is_named(folder, name):
    write_calibration(folder, {"policy": FixedExit(2).to_dict()})
    (folder / name).write_text(POINTER)
    with pytest.raises(ValueError, match=f"{name} is a pointer of Git LFS, .*: run git lfs pull") as raised:
        EarlyExitASR.from_hparams(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_link_to_itself_a_folder_and_an_empty_file_are_named(folder, name):
    for make in ("symlink_to", "mkdir", "touch"):
        path = folder / name
        path.rmdir() if path.is_dir() else path.unlink()
        path.symlink_to(path) if make == "symlink_to" else getattr(path, make)()
        with pytest.raises(ValueError, match=name) as raised:
            EarlyExitASR.from_hparams(folder)
        assert "\n" not in str(raised.value)


def test_a_folder_that_hides_a_hub_name_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user" / "model" / "eval").mkdir(parents=True)
    with pytest.raises(
        ModelError, match="user/model: this folder has no config.json and hides a model of the same name"
    ):
        ModelSource("user/model")
    with pytest.raises(ModelError, match="user/another: no such folder; .* only if there is no folder user/"):
        ModelSource("user/another")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ModelError, match="loop: not a folder, or a broken link"):
        ModelSource("loop")
