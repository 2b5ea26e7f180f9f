# SPDX-License-Identifier: Apache-2.0
import pytest

from speechbrain_ee.hparams import check_same_run, load_hparams, parse_arguments, write_hparams


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("lr: 1", "lr: 2\nlr: 3", 'and the options of the command: found duplicate key "lr"'),
        ("lr: 1", "rate: 2", r"^Override 'rate' not found in: \['lr'\]$"),
        ("lr: 1e-3", "lr: abc", r"^--lr abc: give a number \(0.001 by default\)$"),
        ("layers: 3", "layers: [3]", r"^--layers \[3\]: give a number"),
        ("shared: True", "shared: maybe", "^--shared maybe: give True or False$"),
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


@pytest.mark.parametrize(("blank_index", "is_same"), [(0, True), (5, False)])
def test_a_run_of_a_version_that_had_more_settings_goes_on_where_they_were_as_now(run, blank_index, is_same):
    folder, path = run
    with open(folder / "hyperparams.yaml", "a") as file:
        file.write(f"blank_index: {blank_index}\n")
    if is_same:
        check_same_run(folder, path)
    else:
        with pytest.raises(ValueError, match=r"\(blank_index was 5\): give another --output_folder"):
            check_same_run(folder, path)


def test_objects_are_no_settings_whether_they_have_arguments_or_not(run):
    folder, path = run
    with open(folder / "hyperparams.yaml", "a") as file:
        file.write("decoder: !name:builtins.dict\n  blank: 0\nwriter: !name:builtins.list\n")
    with open(path, "a") as file:
        file.write("decoder: !name:builtins.dict\nwriter: !name:builtins.list\n")
    check_same_run(folder, path)


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


def test_a_run_with_a_save_folder_of_its_own_does_not_go_on_with_other_settings(run, tmp_path):
    folder, path = run
    (folder / "save" / "CKPT+1").rename(tmp_path / "CKPT+1")
    with open(folder / "hyperparams.yaml", "a") as file:
        file.write(f"save_folder: {tmp_path}\n")
    with open(path, "a") as file:
        file.write(f"save_folder: {tmp_path}\n")
    with pytest.raises(ValueError, match="lr was 0.1"):
        check_same_run(folder, path, "lr: 1")


def test_run_options_that_the_yaml_names_become_settings(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("precision: fp32\nmax_grad_norm: 5.0\nlr: 0.1\nsize: !ref <lr>\n")
    options = ["--precision", "bf16", "--max_grad_norm=1", "--lr", "0.2", "--device", "cpu", "--debug"]
    file, run_opts, overrides = parse_arguments([str(path), *options])
    assert (file, run_opts.device, run_opts.debug) == (str(path), "cpu", True)
    assert load_hparams(file, overrides) == {"precision": "bf16", "max_grad_norm": 1.0, "lr": 0.2, "size": 0.2}


@pytest.mark.parametrize("option", [["--skip_nonfinite_grads"], ["--nonfinite_patience", "4"]])
def test_run_options_that_have_no_effect_are_refused(tmp_path, option):
    (tmp_path / "a.yaml").write_text("lr: 0.1")
    with pytest.raises(ValueError, match=f"{option[0]} has no effect"):
        parse_arguments([str(tmp_path / "a.yaml"), *option])


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
