# SPDX-License-Identifier: Apache-2.0
"""The number of CPUs that a process may use, and of threads that a program uses by default."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = CGROUP) -> int:
    """Count the CPUs that this process may use, respecting CPU affinity and the quota of a container.

    Arguments
    ---------
    cgroup : Path
        Where Linux shows the control groups of this process, versions 1 and 2.

    Returns
    -------
    int
        At least 1.

    Example
    -------
    >>> 1 <= available_cpus() <= os.cpu_count()
    True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def default_threads(num_processes: int = 1) -> int:
    """Return the threads to use in each process if none are given.

    They are ``OMP_NUM_THREADS``, or else the share of each process of :func:`available_cpus`, at least 1.
    """
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is for nested loops
    is_given = given.isascii() and given.isdigit() and int(given) > 0
    return int(given) if is_given else max(1, available_cpus() // num_processes)


def _quota(cgroup: Path) -> float | None:
    """Return the CPUs' time per time that a container may use; None for no limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return share if share > 0 else None
