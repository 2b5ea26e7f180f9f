# SPDX-License-Identifier: Apache-2.0
import pytest

from speechbrain_ee.training.logs import TrainLogs


def log(folder, *epochs, loss):
    logs = TrainLogs(folder=folder)
    for epoch in epochs:
        logs.log_stats({"epoch": epoch, "lr": 0.5}, train_stats={"loss": loss}, valid_stats={"loss": 2 * loss})


def test_an_epoch_that_is_done_again_replaces_its_line_and_later_ones(tmp_path):
    log(tmp_path, *range(1, 13), loss=2.0)
    log(tmp_path, 2, loss=3.0)  # 12 starts with a 1 and ends with a 2
    assert (tmp_path / "train_log.txt").read_text().splitlines() == [
        "epoch: 1, lr: 5.0000e-01 - train loss: 2.0000 - valid loss: 4.0000",
        "epoch: 2, lr: 5.0000e-01 - train loss: 3.0000 - valid loss: 6.0000",
    ]


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path):
    log(tmp_path, 1, loss=2.0)
    with open(tmp_path / "train_log.txt", "a") as file:
        file.write("epoch: 1, lr")
    log(tmp_path, 2, loss=3.0)
    lines = (tmp_path / "train_log.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch: 1", "epoch: 2"]


def test_tensorboard_counts_epochs_not_calls(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logs = TrainLogs(folder=tmp_path, tensorboard=True)
    logs.log_stats({"epoch": 7}, train_stats={"loss": 2.0})
    logs.tensorboard.writer.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/train")] == [(7, 2.0)]
