# SPDX-License-Identifier: Apache-2.0
"""Work that one process of several does while the others wait, however long it takes."""

from collections.abc import Callable
from pathlib import Path

import torch
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from speechbrain_ee.files import locked


def in_turn(function: Callable[[], object], lock_file: str | Path) -> None:
    """Call a function in every process, one after another; it must do nothing where its work is done already.

    SpeechBrain's ``run_on_main`` lets the others wait in a barrier, which ends the run after two hours. A lock waits as
    long as the work takes, and where two machines share no disk, each does the work for itself.

    Arguments
    ---------
    function : Callable[[], object]
        Prepares something on the disk, unless it is there.
    lock_file : str | Path
        On the same disk.

    Example
    -------
    >>> in_turn(lambda: print("prepared"), getfixture("tmp_path") / "a.lock")
    prepared
    """
    with locked(Path(lock_file), waiting_for="what it prepares"):
        function()
    ddp_barrier()


def leave_group_as_main() -> bool:
    """End the process group and say whether this is the main process, so that no other waits for its further work."""
    is_main = if_main_process()
    if torch.distributed.is_initialized():
        ddp_barrier()
        torch.distributed.destroy_process_group()
    return is_main
