# SPDX-License-Identifier: Apache-2.0
import pytest

from speechbrain_ee.hparams import check_same_run, load_hparams, write_hparams


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("lr: 1", "lr: 2\nlr: 3", 'and the options of the command: found duplicate key "lr"'),
        ("lr: 1", "rate: 2", r"^Override 'rate' not found in: \['lr'\]$"),
        ("lr: [1", "", "a.yaml and the options of the command: "),
        ("size: 1\nx: !new:torch.nn.Linear\n  in_features: !ref <size>", "", "^Invalid argument to class torch.nn.Lin"),
        ("x: !new:torch.nn.Lineal", "", "There is no such class as torch.nn.Lineal"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, overrides, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises((ValueError, ImportError), match=message):
        load_hparams(path, overrides)


@pytest.fixture
def run(tmp_path):
    """A yaml, and a run of it that has a checkpoint."""
    (tmp_path / "a.yaml").write_text("lr: 0.1\nlayers: [1, 2]\nnumber_of_epochs: 3\nrate: !ref <lr> * 2\n")
    folder = tmp_path / "run"
    (folder / "save" / "CKPT+1").mkdir(parents=True)
    (folder / "hyperparams.yaml").write_text("lr: 0.1\nlayers: [1, 2]\nnumber_of_epochs: 3\nrate: 0.2\n")
    return folder, tmp_path / "a.yaml"


@pytest.mark.parametrize("overrides", ["", "number_of_epochs: 9", "layers: [1, 2]"])
def test_a_run_goes_on_with_the_same_settings(run, overrides):
    check_same_run(*run, overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("layers: [1, 3]", r"\(layers was \[1, 2\]\): give another --output_folder"),
        ("lr: 1", r"lr was 0.1, rate was 0.2"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(run, overrides, message):
    with pytest.raises(ValueError, match=message):
        check_same_run(*run, overrides)


def test_a_folder_without_a_checkpoint_takes_any_settings(run):
    folder, path = run
    (folder / "save" / "CKPT+1").rmdir()
    check_same_run(folder, path, "lr: 1")


def test_the_settings_are_written_whole_or_not_at_all(run, monkeypatch):
    folder, path = run
    write_hparams(folder, path, "number_of_epochs: 9")
    check_same_run(folder, path)
    written = (folder / "hyperparams.yaml").read_text()
    assert "number_of_epochs: 9\n" in written and "rate: 0.2\n" in written

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("speechbrain_ee.files.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_hparams(folder, path, "number_of_epochs: 12")
    assert (folder / "hyperparams.yaml").read_text() == written
