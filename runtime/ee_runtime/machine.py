# SPDX-License-Identifier: Apache-2.0
"""The machine and the process: name of the CPU, versions of libraries, peak memory. Standard library only."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

LIBRARIES = ("numpy", "onnxruntime", "ee_runtime", "torch", "speechbrain", "speechbrain_ee")
STATUS = Path("/proc/self/status")
CPUINFO = Path("/proc/cpuinfo")
BOARD = Path("/proc/device-tree/model")  # of ARM boards, whose CPUs have no name in CPUINFO


def cpu_name(cpuinfo: Path = CPUINFO, board: Path = BOARD) -> str:
    """Return the name of the CPU or board, or of the architecture if the system does not tell more.

    Arguments
    ---------
    cpuinfo : Path
        Where Linux describes the CPUs.
    board : Path
        Where Linux names the board.
    """
    if cpuinfo.exists():
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    architecture = platform.processor() or platform.machine()
    if board.exists():
        return f"{board.read_text('utf-8', errors='replace').strip(chr(0)).strip()} ({architecture})"
    return architecture


def loaded_versions() -> dict[str, str]:
    """Return the version of Python, and of each library of :data:`LIBRARIES` that this process has imported.

    Example
    -------
    >>> "python" in loaded_versions()
    True
    """
    loaded = {name: sys.modules[name] for name in LIBRARIES if name in sys.modules}
    return {"python": platform.python_version()} | {name: str(one.__version__) for name, one in loaded.items()}


def peak_memory(status: Path = STATUS) -> tuple[int | None, str]:
    """Return the largest resident memory of this process so far, in bytes, and where the number is from.

    On Linux this is ``VmHWM``, which starts anew with every program; elsewhere ``ru_maxrss`` of ``getrusage``. A system
    that has neither gives None.

    Arguments
    ---------
    status : Path
        Where Linux describes this process.
    """
    if status.exists():
        for line in status.read_text("utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024, "VmHWM"
    try:
        import resource
    except ImportError:  # Windows
        return None, "not measured"
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest * (1 if sys.platform == "darwin" else 1024), "ru_maxrss"


def logical_cpus() -> int:
    """Return the number of logical CPUs of the machine."""
    return os.cpu_count() or 1
