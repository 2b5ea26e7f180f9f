# SPDX-License-Identifier: Apache-2.0
"""What a program sets and checks at its start: threads, whether torchaudio fits torch, and the device."""

import importlib
import os
from importlib.metadata import PackageNotFoundError, version

# GNU's OpenMP, which torch brings on Linux, lets a waiting thread spin. With another process on one of two cores, that
# keeps the thread that has work from its core, and a batch takes many times as long. See docs/guide/install.md.
SPIN_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SPIN_COUNT = "1000"


def available_cpus() -> int:
    """Count the CPUs that this process may use: CPU affinity and a container's quota are respected.

    Returns
    -------
    int
        At least 1.

    Example
    -------
    >>> 1 <= available_cpus() <= os.cpu_count()
    True
    """
    from joblib import cpu_count

    return cpu_count()


def prepare_process(threads: int | None = None) -> None:
    """Set the number of threads and how they wait, then check that torchaudio loads beside torch.

    Call it before torch is imported: OpenMP reads these settings once. What the user has set in the environment
    (``OMP_NUM_THREADS``, ``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``) is left as it is, and passed on to child processes.

    Arguments
    ---------
    threads : int | None
        Threads of one operation; None means ``OMP_NUM_THREADS``, or else :func:`available_cpus`.

    Raises
    ------
    ValueError
        If the number is below 1.
    ImportError
        If torchaudio does not load; see :func:`check_torchaudio`.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"{threads} threads were asked for: give 1 or more")
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(available_cpus())
    if not any(name in os.environ for name in SPIN_SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    check_torchaudio()


def check_torchaudio() -> None:
    """Check that torchaudio loads beside the torch that is installed.

    ``import speechbrain`` imports torchaudio, which loads a library that fits only some versions of torch.

    Raises
    ------
    ImportError
        If it does not; one line that names both versions and what to install.
    """
    try:
        importlib.import_module("torchaudio")
    except Exception as error:  # OSError, RuntimeError or ImportError, by the version of torchaudio
        raise ImportError(_misfit(error)) from error


def _misfit(error: Exception) -> str:
    torch, torchaudio = _installed("torch"), _installed("torchaudio")
    if None in (torch, torchaudio):
        missing = " and ".join(name for name, found in (("torch", torch), ("torchaudio", torchaudio)) if found is None)
        return f"{missing} is not installed: {_remedy(torch)}"
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"torchaudio {torchaudio} does not load beside torch {torch} ({reason}): {_remedy(torch)}"


def _remedy(torch: str | None) -> str:
    """Name a pair of versions that fit each other; a build for one kind of device has its index."""
    release, _, build = (torch or "").partition("+")
    if build:
        return f"install the torchaudio of the index that torch {torch} came from, both in one command"
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
    import torch  # after prepare_process

    kind, colon, index = (device or "cpu").partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and (kind != "cuda" or not index.isdecimal())):
        raise ValueError(f"device {device}: give cpu, cuda, cuda:<number> or mps")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device}: {torch.cuda.device_count()} GPUs are here that torch can use; give cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {device}: no Apple GPU is here that torch can use; give cpu")
