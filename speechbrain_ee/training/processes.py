# SPDX-License-Identifier: Apache-2.0
"""Work that one process of a distributed run does while the others wait."""

from collections.abc import Callable
from pathlib import Path

import torch
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from speechbrain_ee.files import locked


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


def leave_group_as_main() -> bool:
    """End the process group, and return whether this is the main process, which continues alone."""
    is_main = if_main_process()
    if torch.distributed.is_initialized():
        ddp_barrier()
        torch.distributed.destroy_process_group()
    return is_main
