# SPDX-License-Identifier: Apache-2.0
"""Work that one process of several does while the others wait, however long it takes; and devices that are there."""

from collections.abc import Callable
from pathlib import Path

import torch
from speechbrain.utils.distributed import ddp_barrier

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


def check_device(device: str | None) -> None:
    """Refuse a device that is not here.

    Arguments
    ---------
    device : str | None
        ``cpu``, ``cuda``, ``cuda:<number>`` or ``mps``; None leaves the choice to SpeechBrain.

    Raises
    ------
    ValueError
        If it is none of these, or not here.

    Example
    -------
    >>> check_device("gpu")
    Traceback (most recent call last):
    ValueError: device gpu: give cpu, cuda, cuda:<number> or mps
    """
    kind, colon, index = (device or "cpu").partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and (kind != "cuda" or not index.isdecimal())):
        raise ValueError(f"device {device}: give cpu, cuda, cuda:<number> or mps")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device}: {torch.cuda.device_count()} GPUs are here that torch can use; give cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {device}: no Apple GPU is here that torch can use; give cpu")
