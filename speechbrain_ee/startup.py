# SPDX-License-Identifier: Apache-2.0
"""Settings and checks at the start of a program: threads, torchaudio and the device."""

import importlib
import os
from importlib.metadata import PackageNotFoundError, version

from ee_runtime.threads import available_cpus

# Waiting threads of GNU OpenMP, which torch uses on Linux, spin. If another process uses some cores, spinning threads
# occupy the cores that working threads need, and a batch takes many times as long. See docs/guide/install.md.
SPIN_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SPIN_COUNT = "1000"


def prepare_process(threads: int | None = None) -> None:
    """Set the number of threads and how they wait, and check that torchaudio can be imported.

    Call it before torch is imported: OpenMP reads these settings once. Variables that the user has set
    (``OMP_NUM_THREADS``, ``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``) are not changed. Child processes inherit the
    settings.

    Arguments
    ---------
    threads : int | None
        Threads per operation; None means ``OMP_NUM_THREADS``, or else :func:`available_cpus`.

    Raises
    ------
    ValueError
        If the number is below 1.
    ImportError
        If torchaudio cannot be imported; see :func:`check_torchaudio`.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads={threads}: give 1 or more")
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(available_cpus())
    if not any(name in os.environ for name in SPIN_SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    check_torchaudio()


def check_torchaudio() -> None:
    """Check that torchaudio can be imported with the installed torch.

    ``import speechbrain`` imports torchaudio, which loads a library that is compatible with some versions of torch
    only.

    Raises
    ------
    ImportError
        If the import fails; the message names both versions and what to install.
    """
    try:
        importlib.import_module("torchaudio")
    except Exception as error:  # OSError, RuntimeError or ImportError, depending on the version of torchaudio
        raise ImportError(_misfit(error)) from error


def _misfit(error: Exception) -> str:
    torch, torchaudio = _installed("torch"), _installed("torchaudio")
    if None in (torch, torchaudio):
        missing = " and ".join(name for name, found in (("torch", torch), ("torchaudio", torchaudio)) if found is None)
        return f"{missing} is not installed: {_remedy(torch)}"
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"torchaudio {torchaudio} does not load with torch {torch} ({reason}): {_remedy(torch)}"


def _remedy(torch: str | None) -> str:
    """Return the command that installs compatible versions; a build for one kind of device has its own index."""
    release, _, build = (torch or "").partition("+")
    if build:
        return f"install torch and torchaudio in one command from the index that torch {torch} came from"
    numbers = [int(part) for part in release.split(".")[:2] if part.isdigit()]
    if len(numbers) == 2 and numbers <= [2, 10]:
        return f"pip install 'torchaudio=={numbers[0]}.{numbers[1]}.*'"
    if len(numbers) == 2 and numbers < [2, 13]:
        return f"pip install torchaudio==2.11.0, which loads with torch {release}, or pip install -U torch torchaudio"
    return "pip install -U torch torchaudio"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_device(device: str | None) -> None:
    """Check that a device is available.

    Arguments
    ---------
    device : str | None
        ``cpu``, ``cuda``, ``cuda:<number>`` or ``mps``; None leaves the choice to SpeechBrain.

    Raises
    ------
    ValueError
        If the name is invalid or the device is not available.

    Example
    -------
    >>> check_device("gpu")
    Traceback (most recent call last):
    ValueError: device gpu: give cpu, cuda, cuda:<number> or mps
    """
    import torch  # after prepare_process

    kind, colon, index = (device or "cpu").partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and (kind != "cuda" or not index.isdecimal())):
        raise ValueError(f"device {device}: give cpu, cuda, cuda:<number> or mps")
    if kind == "cuda" and int(index or 0) >= (found := torch.cuda.device_count()):
        allowed = f"cpu or cuda:0..{found - 1}" if found else "cpu"
        raise ValueError(f"device {device}: torch finds {found} GPUs: give {allowed}")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {device}: torch finds no Apple GPU: give cpu")
