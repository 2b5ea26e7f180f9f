# SPDX-License-Identifier: Apache-2.0
"""What one process prepares while another waits, longer than any barrier would; and devices."""

import datetime
import multiprocessing
import os
import time

import pytest
import torch
from speechbrain.utils.distributed import ddp_barrier

from speechbrain_ee.startup import check_device
from speechbrain_ee.training.processes import in_turn

BARRIER_S = 2  # SpeechBrain's is two hours


def prepare(folder):
    """Take longer than a barrier waits, unless it is done."""
    if not (folder / "done").exists():
        time.sleep(2 * BARRIER_S)
        (folder / "done").touch()
        with open(folder / "times", "a") as file:
            file.write("once ")


def work(rank, folder):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    timeout = datetime.timedelta(seconds=BARRIER_S)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timeout)
    in_turn(lambda: prepare(folder), folder / "prepare.lock")
    assert (folder / "done").exists()
    ddp_barrier()


def test_a_process_waits_longer_than_a_barrier_for_what_another_prepares(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "times").read_text() == "once "


@pytest.mark.parametrize("device", [None, "cpu"])
def test_devices_that_are_there(device):
    check_device(device)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device gpu: give cpu, cuda, cuda:<number> or mps"),
        ("cuda:x", "device cuda:x: give cpu"),
        ("cuda:", "device cuda:: give cpu"),
        ("cpu:0", "device cpu:0: give cpu"),
        ("cuda:99", r"device cuda:99: torch finds \d+ GPUs: give cpu"),
    ],
)
def test_devices_that_are_not(device, message):
    with pytest.raises(ValueError, match=message):
        check_device(device)
