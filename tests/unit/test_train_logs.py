# SPDX-License-Identifier: Apache-2.0
"""Training logs: each epoch once, however often the run was killed."""

import sys

import pytest

from speechbrain_ee.train_logs import TrainLogs


def log(folder, epochs, loss=2.5, **arguments):
    logs = TrainLogs(folder=folder, **arguments)
    for epoch in epochs:
        logs.log_stats({"epoch": epoch, "lr": 0.001}, {"loss": loss}, {"wer_2": 12.25})
    return logs


def line(epoch, loss="2.5000"):
    return f"epoch: {epoch}, lr: 1.0000e-03 - train loss: {loss} - valid wer_2: 12.2500"


def lines(folder):
    return (folder / "train_log.txt").read_text().splitlines()


def test_lines_are_appended_when_training_resumes(tmp_path):
    log(tmp_path, range(1, 10))
    log(tmp_path, [10, 11])
    assert lines(tmp_path) == [line(epoch) for epoch in range(1, 12)]
    assert [path.name for path in tmp_path.iterdir()] == ["train_log.txt"]


def test_an_epoch_done_again_replaces_its_line_and_later_ones(tmp_path):
    log(tmp_path, range(1, 13))
    log(tmp_path, [2], loss=3.0)
    assert lines(tmp_path) == [line(1), line(2, "3.0000")]


def test_a_half_written_line_is_dropped(tmp_path):
    log(tmp_path, [1, 2])
    path = tmp_path / "train_log.txt"
    path.write_text(path.read_text()[:-20])  # killed in the middle of epoch 2's line
    log(tmp_path, [3])
    assert lines(tmp_path) == [line(1), line(3)]


def test_tensorboard_gets_the_same_numbers_at_their_epochs(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log(tmp_path, [1, 2], tensorboard=True).tensorboard.writer.close()
    log(tmp_path, [3], loss=1.0, tensorboard=True).tensorboard.writer.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/train")] == [(1, 2.5), (2, 2.5), (3, 1.0)]
    assert [event.step for event in events.Scalars("lr")] == [1, 2, 3]
    assert lines(tmp_path) == [line(1), line(2), line(3, "1.0000e+00")]


def test_without_tensorboard_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r'pip install "speechbrain_ee\[tensorboard\]"'):
        TrainLogs(folder=tmp_path, tensorboard=True)
