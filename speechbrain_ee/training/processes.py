# SPDX-License-Identifier: Apache-2.0
"""Processes of a distributed run: work in turn, their own random numbers, means over all of them."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from speechbrain.utils.distributed import ddp_barrier, get_local_rank, get_rank, if_main_process
from speechbrain.utils.seed import seed_everything

from speechbrain_ee.corpora.dataset import stable_seed
from speechbrain_ee.files import locked


def check_processes(device: str | None, backend: str) -> None:
    """Check that each process of a distributed run has a device of its own, or trains on the CPU.

    Arguments
    ---------
    device : str | None
        The run option ``--device``.
    backend : str
        The run option ``--distributed_backend``; SpeechBrain's default is nccl, which needs a GPU per process.

    Raises
    ------
    ValueError
        If there are fewer GPUs than processes, or one device was given for several processes.

    Example
    -------
    >>> check_processes("cuda", "nccl")  # a single process may use any device
    """
    rank, num_processes = get_local_rank(), int(os.environ.get("WORLD_SIZE", 1))
    if rank is None or backend == "gloo" or num_processes == 1:
        return
    on_cpu = "--device cpu --distributed_backend gloo"
    found = torch.cuda.device_count()
    if rank >= found:
        raise ValueError(f"process {rank} has no GPU, torch finds {found}: start one process per GPU, or add {on_cpu}")
    if device is not None:
        raise ValueError(
            f"--device {device} is one device for {num_processes} processes: leave it out, or add {on_cpu}"
        )


def in_turn(function: Callable[[], object], lock_file: str | Path) -> None:
    """Call a function in every process, one process at a time.

    The function must return at once if its work has been done. SpeechBrain's ``run_on_main`` makes the other processes
    wait in a barrier, which times out after two hours; a lock has no limit. Machines that share no disk each do the
    work.

    Arguments
    ---------
    function : Callable[[], object]
        Prepares files on the disk unless they exist.
    lock_file : str | Path
        Lock file, on the same disk.

    Example
    -------
    >>> in_turn(lambda: print("prepared"), getfixture("tmp_path") / "a.lock")
    prepared
    """
    with locked(Path(lock_file), waiting_for="the files that it prepares"):
        function()
    ddp_barrier()


def seed_process(seed: int) -> None:
    """Give every process but the main one its own random numbers, for dropout and augmentation.

    SpeechBrain gives all processes the same seed, so that they would draw the same dropout and the same masks. The main
    process keeps the random numbers of a training with one process.

    Arguments
    ---------
    seed : int
        Seed of the run.
    """
    if not if_main_process():
        seed_everything(stable_seed("process", seed, get_rank()) % 2**32, verbose=False)


def mean_of_processes(value: torch.Tensor, device: str) -> torch.Tensor:
    """Return the mean of a scalar over all processes; every process must call this.

    Arguments
    ---------
    value : torch.Tensor
        Scalar of this process, on the CPU.
    device : str
        Device of the training, on which NCCL exchanges tensors.

    Returns
    -------
    torch.Tensor
        The mean, on the CPU; the value itself without a distributed run.

    Example
    -------
    >>> mean_of_processes(torch.tensor(3.0), "cpu")
    tensor(3.)
    """
    if not torch.distributed.is_initialized():
        return value
    total = value.to(device, copy=True)
    torch.distributed.all_reduce(total)
    return total.cpu() / torch.distributed.get_world_size()


def leave_group_as_main() -> bool:
    """End the process group, and return whether this is the main process, which continues alone."""
    is_main = if_main_process()
    if torch.distributed.is_initialized():
        ddp_barrier()
        torch.distributed.destroy_process_group()
    return is_main
