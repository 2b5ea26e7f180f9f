# SPDX-License-Identifier: Apache-2.0
"""The number of CPUs: affinity and the quota of a container, in both versions of control groups."""

import os
from pathlib import Path

import pytest

from ee_runtime.threads import available_cpus, default_threads

ALLOWED = available_cpus(cgroup=Path("/no/such/folder"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, ALLOWED),
        ({"cpu.max": "broken\n"}, ALLOWED),
        ({"cpu.max": "100000000 100000\n"}, ALLOWED),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, ALLOWED),
        ({}, ALLOWED),
    ],
)
def test_a_quota_limits_the_number_of_cpus(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cpus(cgroup=tmp_path) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_affinity_limits_the_number_of_cpus():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert available_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("given", "expected"), [("3", 3), ("2,1", 2), (" 5 ", 5), ("0", None), ("", None), ("many", None), ("-1", None)]
)
def test_the_environment_gives_the_default(monkeypatch, given, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert default_threads() == (available_cpus() if expected is None else expected)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert default_threads() == available_cpus()
