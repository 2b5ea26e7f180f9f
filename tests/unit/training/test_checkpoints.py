# SPDX-License-Identifier: Apache-2.0
import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.utils.checkpoints import METAFNAME, Checkpointer
from torch import nn
from unit.models import model_with_heads

from speechbrain_ee.errors import CheckpointError
from speechbrain_ee.training import checkpoints
from speechbrain_ee.training.checkpoints import AtomicCheckpointer


class Saver:
    """Recoverable that does as it is told when it is saved; only ever given as a custom hook."""

    def __init__(self, action=None):
        self.action = action

    def save(self, path):
        Path(path).write_text("half")
        if self.action is not None:
            self.action(path)


def with_saver(folder, model, action=None):
    """Checkpointer that saves the model first and then runs the action."""
    saver = Saver(action)
    checkpointer = AtomicCheckpointer(
        folder,
        {"model": model, "saver": saver},
        custom_save_hooks={"saver": Saver.save},
        custom_load_hooks={"saver": lambda obj, path, end_of_epoch: None},
    )
    return checkpointer, saver


def raiser(error):
    def action(path):
        raise error

    return action


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith("."))


def fill(model, value):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def weight_of(folder):
    """What a fresh process would load from the newest checkpoint."""
    model = nn.Linear(2, 2)
    checkpointer, _ = with_saver(folder, model)
    assert checkpointer.recover_if_possible() is not None
    return model.weight[0, 0].item()


@pytest.fixture
def saved(tmp_path):
    """A folder with one whole checkpoint, its model (all ones) and its checkpointer."""
    model = nn.Linear(2, 2)
    checkpointer, saver = with_saver(tmp_path, model)
    fill(model, 1.0)
    checkpointer.save_checkpoint({"wer": 10.0}, name="one")
    fill(model, 2.0)
    return tmp_path, checkpointer, saver


# --- saving ---------------------------------------------------------------------------------


def test_returned_paths_are_the_final_ones(saved):
    folder, checkpointer, _ = saved
    ckpt = checkpointer.save_checkpoint({"wer": 5.0}, name="two")
    assert ckpt.path == folder / "CKPT+two"
    assert ckpt.paramfiles == {
        "model": folder / "CKPT+two" / "model.ckpt",
        "saver": folder / "CKPT+two" / "saver.ckpt",
    }
    assert all(path.is_file() for path in ckpt.paramfiles.values())
    assert ckpt.meta["wer"] == 5.0
    assert ckpt == checkpointer.find_checkpoint()
    assert names(folder) == ["CKPT+one", "CKPT+two"]


def test_two_checkpoints_in_one_second_get_two_names(tmp_path):
    checkpointer = AtomicCheckpointer(tmp_path, {"model": nn.Linear(1, 1)})
    first, second = checkpointer.save_checkpoint(), checkpointer.save_checkpoint()
    assert first.path != second.path
    assert names(tmp_path) == sorted([first.path.name, second.path.name])


def test_nothing_is_found_while_saving(saved):
    folder, checkpointer, saver = saved
    seen = []
    saver.action = lambda path: seen.append([c.path.name for c in checkpointer.list_checkpoints()])
    checkpointer.save_checkpoint(name="two")
    assert seen == [["CKPT+one"]]


def test_everything_is_on_the_disk_before_the_rename(saved, monkeypatch):
    folder, checkpointer, _ = saved
    events = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor):
        events.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def note_rename(source, target):
        events.append("rename")
        rename(source, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to name a descriptor's file")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    checkpointer.save_checkpoint(name="two")
    moment = events.index("rename")
    assert set(events[:moment]) == {METAFNAME, "model.ckpt", "saver.ckpt", "saving+CKPT+two"}
    assert events[moment + 1 :] == [folder.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), ValueError("x"), OSError(errno.EIO, "x")])
def test_failure_in_the_middle_leaves_the_previous_checkpoint(saved, error):
    folder, checkpointer, saver = saved
    saver.action = raiser(error)
    with pytest.raises(type(error)) as caught:
        checkpointer.save_checkpoint(name="two")
    assert caught.value is error
    assert names(folder) == ["CKPT+one"]
    assert weight_of(folder) == 1.0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_one_clear_line(saved, number):
    folder, checkpointer, saver = saved
    saver.action = raiser(OSError(number, "the disk is full"))
    with pytest.raises(CheckpointError, match="no space left.*free some space") as caught:
        checkpointer.save_checkpoint(name="two")
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    assert caught.value.__cause__.errno == number
    assert names(folder) == ["CKPT+one"]
    assert weight_of(folder) == 1.0


def test_full_disk_before_the_first_file(saved, monkeypatch):
    folder, checkpointer, _ = saved
    monkeypatch.setattr(checkpointer, "_save_checkpoint_metafile", lambda *_: raiser(OSError(errno.ENOSPC, "x"))(0))
    with pytest.raises(CheckpointError, match="no space left"):
        checkpointer.save_checkpoint(name="two")
    assert names(folder) == ["CKPT+one"]


def test_ctrl_c_while_a_full_disk_is_handled_stays_ctrl_c(saved):
    folder, checkpointer, saver = saved

    def action(path):
        try:
            raise OSError(errno.ENOSPC, "x")
        except OSError:
            raise KeyboardInterrupt from None

    saver.action = action
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save_checkpoint(name="two")
    assert names(folder) == ["CKPT+one"]


def torch_save_to_full_device(path):
    torch.save({"weight": torch.zeros(1000)}, "/dev/full")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("full", [True, False])
def test_torch_hides_the_full_disk(saved, monkeypatch, full):
    """The very error of torch.save on a full disk; whether the disk is full says a second try."""
    folder, checkpointer, saver = saved
    saver.action = torch_save_to_full_device
    if full:
        monkeypatch.setattr(checkpoints.os, "urandom", lambda n: raiser(OSError(28, "x"))(0))
    with pytest.raises(RuntimeError) as caught:
        checkpointer.save_checkpoint(name="two")
    assert isinstance(caught.value, CheckpointError) == full
    assert ("no space left" in str(caught.value)) == full
    assert names(folder) == ["CKPT+one"]


def test_other_runtime_errors_write_no_probe(saved, monkeypatch):
    _, checkpointer, saver = saved
    saver.action = raiser(RuntimeError("the graph is gone"))
    monkeypatch.setattr(checkpoints.os, "urandom", lambda n: pytest.fail("a probe was written"))
    with pytest.raises(RuntimeError, match="^the graph is gone$"):
        checkpointer.save_checkpoint(name="two")


def test_a_name_is_replaced(saved):
    folder, checkpointer, _ = saved
    checkpointer.save_checkpoint({"wer": 5.0}, name="one")
    assert names(folder) == ["CKPT+one"]
    assert weight_of(folder) == 2.0


def test_failure_while_replacing_keeps_the_old_one(saved, monkeypatch):
    folder, checkpointer, _ = saved
    rename, calls = os.rename, []

    def second_fails(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save_checkpoint(name="one")
    assert names(folder) == ["CKPT+one"]
    assert weight_of(folder) == 1.0


# --- kills ----------------------------------------------------------------------------------

KILLED = """
import os, signal, sys, torch
from speechbrain_ee.training.checkpoints import AtomicCheckpointer
model = torch.nn.Linear(2, 2)
torch.nn.init.constant_(model.weight, 2.0)
kill = lambda obj, path: (open(path, "w").write("half"), os.kill(os.getpid(), signal.SIGKILL))
checkpointer = AtomicCheckpointer(sys.argv[1], {"model": model, "saver": object()},
                                  custom_save_hooks={"saver": kill})
checkpointer.save_checkpoint(name="two")
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_sigkill_in_the_middle_of_a_save(saved, caplog):
    folder, _, _ = saved
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=Path(__file__).parents[3])
    assert done.returncode == -9
    assert names(folder) == ["CKPT+one", "saving+CKPT+two"]
    assert names(folder / "saving+CKPT+two") == [METAFNAME, "model.ckpt", "saver.ckpt"]
    # SpeechBrain's own class finds the right one too.
    assert Checkpointer(folder).find_checkpoint().path.name == "CKPT+one"
    with caplog.at_level(logging.INFO, logger="speechbrain_ee.training.checkpoints"):
        assert weight_of(folder) == 1.0
    assert names(folder) == ["CKPT+one"]
    removed = [r.getMessage() for r in caplog.records if "Removed incomplete" in r.getMessage()]
    assert len(removed) == 1 and "saving+CKPT+two" in removed[0]


def test_leftovers_of_every_kind(saved, caplog):
    folder, checkpointer, _ = saved
    for name in ("two", "three"):
        checkpointer.save_checkpoint(name=name)
    os.rename(folder / "CKPT+two", folder / "deleting+CKPT+two")
    os.rename(folder / "CKPT+three", folder / "replaced+CKPT+three")  # its successor is not there
    (folder / "replaced+CKPT+one").mkdir()  # its successor is
    (folder / "saving+CKPT+four").mkdir()
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="speechbrain_ee.training.checkpoints"):
        AtomicCheckpointer(folder)
    assert names(folder) == ["CKPT+one", "CKPT+three"]
    assert len(caplog.records) == 1
    for name in ("deleting+CKPT+two", "replaced+CKPT+one", "saving+CKPT+four"):
        assert name in caplog.text


def test_a_second_process_leaves_a_running_save_alone(saved):
    folder, checkpointer, saver = saved
    saver.action = lambda path: AtomicCheckpointer(folder)
    checkpointer.save_checkpoint(name="two")
    assert names(folder) == ["CKPT+one", "CKPT+two"]


def test_a_disk_without_locks_is_taken_for_one_of_our_own(saved, monkeypatch):
    folder, _, _ = saved
    (folder / "saving+CKPT+two").mkdir()

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(checkpoints.fcntl, "flock", no_locks)
    AtomicCheckpointer(folder)
    assert names(folder) == ["CKPT+one"]


def test_constructing_writes_nothing(saved):
    folder, _, _ = saved
    (folder / ".saving.lock").unlink()
    AtomicCheckpointer(folder)
    assert [path.name for path in folder.iterdir()] == ["CKPT+one"]


# --- deleting -------------------------------------------------------------------------------


def save_wers(tmp_path, wers):
    checkpointer = AtomicCheckpointer(tmp_path, {"model": nn.Linear(1, 1)})
    for time, wer in enumerate(wers):
        checkpointer.save_checkpoint({"wer": wer, "unixtime": time}, name=str(wer))
    return checkpointer


@pytest.mark.parametrize(
    "choice, kept",
    [
        ({"num_to_keep": 1}, [20]),  # the newest
        ({"num_to_keep": 2}, [10, 20]),
        ({"num_to_keep": 2, "min_keys": ["wer"], "importance_keys": []}, [5, 10]),
        ({"num_to_keep": 1, "min_keys": ["wer"], "max_keys": ["wer"]}, [5, 20, 30]),
        ({"num_to_keep": 0}, []),
        ({"num_to_keep": 0, "ckpt_predicate": lambda c: c.meta["wer"] > 6}, [5]),
    ],
)
def test_delete_chooses_as_speechbrain(tmp_path, choice, kept):
    for cls, folder in [(AtomicCheckpointer, tmp_path / "ours"), (Checkpointer, tmp_path / "sb")]:
        save_wers(folder, [30, 5, 10, 20])
        cls(folder).delete_checkpoints(**choice)
        assert names(folder) == sorted(f"CKPT+{wer}" for wer in kept)


def test_delete_renames_first(saved, monkeypatch):
    folder, checkpointer, _ = saved
    monkeypatch.setattr(checkpoints.shutil, "rmtree", lambda *_, **__: None)  # killed before it
    checkpointer.delete_checkpoints(num_to_keep=0)
    assert names(folder) == ["deleting+CKPT+one"]
    assert checkpointer.list_checkpoints() == []


def test_keep_only_forgets_the_keys_of_earlier_calls(tmp_path):
    """SpeechBrain adds recency to its own default, so a later keep_recent=False is not supported."""
    checkpointer = save_wers(tmp_path, [])
    checkpointer.save_and_keep_only({"wer": 5.0, "unixtime": 1}, name="best")
    mine = []
    checkpointer.save_and_keep_only(
        {"wer": 9.0, "unixtime": 2},
        name="worse",
        importance_keys=mine,
        min_keys=["wer"],
        keep_recent=False,
    )
    assert names(tmp_path) == ["CKPT+best"]
    checkpointer.save_and_keep_only({"wer": 9.0, "unixtime": 3}, name="last", min_keys=["wer"])
    assert names(tmp_path) == ["CKPT+best", "CKPT+last"]
    assert mine == []


def test_negative_num_to_keep(tmp_path):
    with pytest.raises(ValueError, match="num_to_keep is -1: give 0 or more"):
        AtomicCheckpointer(tmp_path).delete_checkpoints(num_to_keep=-1)


# --- loading --------------------------------------------------------------------------------


def test_resuming_with_another_model_names_the_head(tmp_path):
    AtomicCheckpointer(tmp_path, {"model": model_with_heads(2)}).save_checkpoint(name="x")
    other = AtomicCheckpointer(tmp_path, {"model": model_with_heads(3)})
    with pytest.raises(CheckpointError, match=r"CKPT\+x/model.ckpt lacks head 2: heads.2.weight"):
        other.recover_if_possible()


def test_missing_file_is_named_unless_partial_loads_are_allowed(saved):
    folder, _, _ = saved
    model = nn.Linear(2, 2)
    both = {"model": model, "optimizer": torch.optim.SGD(model.parameters())}
    with pytest.raises(CheckpointError, match=r"CKPT\+one lacks optimizer: remove that folder"):
        AtomicCheckpointer(folder, both).recover_if_possible()
    AtomicCheckpointer(folder, both, allow_partial_load=True).recover_if_possible()
    assert torch.equal(model.weight, torch.ones(2, 2))


def test_a_data_loader_has_no_file_after_an_epoch_as_in_speechbrain(saved):
    folder, _, _ = saved
    model = nn.Linear(2, 2)
    recoverables = {"model": model, "dataloader-TRAIN": SaveableDataLoader([1, 2])}
    with pytest.warns(UserWarning, match="dataloader-TRAIN"):
        AtomicCheckpointer(folder, recoverables).recover_if_possible()
    assert torch.equal(model.weight, torch.ones(2, 2))


# --- two processes --------------------------------------------------------------------------

RANK = """
import os, sys, torch
from speechbrain.utils.distributed import ddp_init_group
ddp_init_group({"distributed_backend": "gloo"})
from speechbrain_ee.training.checkpoints import AtomicCheckpointer
from speechbrain_ee.training.rng import RNGState
rank, folder = int(os.environ["RANK"]), sys.argv[1]
torch.manual_seed(rank)
checkpointer = AtomicCheckpointer(folder, {"model": torch.nn.Linear(1, 1), "rng": RNGState()})
for wer in (3.0, 1.0, 2.0):
    checkpointer.save_and_keep_only({"wer": wer}, min_keys=["wer"], keep_recent=False)
assert [c.meta["wer"] for c in checkpointer.list_checkpoints()] == [1.0]
ckpt = checkpointer.save_checkpoint({"wer": 0.5}, name="last")
assert (ckpt is None) == (rank == 1)
drawn = torch.rand(3)
torch.manual_seed(99)
assert checkpointer.recover_if_possible(min_key="wer").path.name == "CKPT+last"
assert torch.equal(torch.rand(3), drawn)
torch.distributed.destroy_process_group()
"""


def test_two_ranks_share_a_checkpoint_and_keep_their_own_numbers(tmp_path):
    (tmp_path / "saving+CKPT+old").mkdir()
    env = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path)],
            env={**env, "RANK": rank, "LOCAL_RANK": rank},
            cwd=Path(__file__).parents[3],
        )
        for rank in ("0", "1")
    ]
    try:
        assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    last, best = names(tmp_path)[::-1]
    assert last == "CKPT+last" and best.startswith("CKPT+2")
    assert names(tmp_path / last) == [METAFNAME, "model.ckpt", "rng.ckpt", "rng.ckpt.rank1"]


def free_port():
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])
