# SPDX-License-Identifier: Apache-2.0
"""Processes take turns, exchange means and have their own random numbers; devices."""

import datetime
import multiprocessing
import os
import random
import shutil
import time
from ast import literal_eval

import numpy as np
import pytest
import torch
from speechbrain.utils.distributed import ddp_barrier
from speechbrain.utils.seed import seed_everything

from speechbrain_ee.startup import check_device
from speechbrain_ee.training.checkpoints import AtomicCheckpointer
from speechbrain_ee.training.processes import check_processes, in_turn, mean_of_processes, seed_process
from speechbrain_ee.training.resume import check_same_processes
from speechbrain_ee.training.rng import RNGState

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
    mine = torch.tensor(1.0 + 2.0 * rank)
    assert mean_of_processes(mine, "cpu").item() == 2.0  # of 1 and 3
    assert mine.item() == 1.0 + 2.0 * rank
    seed_everything(5, verbose=False)
    seed_process(5)
    (folder / f"random{rank}").write_text(repr([torch.rand(()).item(), random.random(), np.random.rand()]))


def test_processes_take_turns_longer_than_a_barrier_waits_and_share_means_but_no_random_numbers(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "times").read_text() == "once "
    drawn = [literal_eval((tmp_path / f"random{rank}").read_text()) for rank in (0, 1)]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        assert drawn[0][0] == torch.rand(()).item()  # the main process draws what a single process would
    assert all(a != b for a, b in zip(*drawn, strict=True))


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


@pytest.mark.parametrize(
    ("rank", "device", "backend", "message"),
    [
        (1, None, "nccl", "process 1 has no GPU, torch finds 1: start one process per GPU, or add --device cpu --dist"),
        (0, "cuda", "nccl", "--device cuda is one device for 2 processes: leave it out"),
        (0, "cpu", "nccl", "--device cpu is one device for 2 processes: .* --distributed_backend gloo"),
        (0, None, "nccl", None),
        (1, "cpu", "gloo", None),
    ],
)
def test_each_process_needs_its_own_gpu_or_the_cpu(monkeypatch, rank, device, backend, message):
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    if message is None:
        check_processes(device, backend)
    else:
        with pytest.raises(ValueError, match=message):
            check_processes(device, backend)


def test_training_is_resumed_on_as_many_processes_as_it_began_with(tmp_path):
    checkpointer = AtomicCheckpointer(tmp_path, {"rng": RNGState()})
    checkpoint = checkpointer.save_checkpoint(meta={"epoch": 2})
    check_same_processes(None, 3)
    check_same_processes(checkpoint, 3)
    shutil.copy(checkpoint.path / "rng.ckpt", checkpoint.path / "rng.ckpt.rank1")
    with pytest.raises(ValueError, match="was saved with 2 processes, and this command has 1: .*--nproc_per_node=2"):
        check_same_processes(checkpoint, 3)
    check_same_processes(checkpoint, 2)  # all epochs are trained: the main process evaluates
