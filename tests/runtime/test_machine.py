# SPDX-License-Identifier: Apache-2.0
"""What the system tells about the machine and the process."""

import platform
import subprocess
import sys

import numpy as np
import pytest

from ee_runtime.machine import cpu_name, loaded_versions, peak_memory

resource = pytest.importorskip("resource")


def test_the_name_of_the_cpu(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Tiny CPU: v2 @ 1 GHz\nmodel name\t: other\n")
    assert cpu_name(tmp_path / "cpuinfo") == "Tiny CPU: v2 @ 1 GHz"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\n")  # as on many ARM boards
    architecture = platform.processor() or platform.machine()
    assert cpu_name(tmp_path / "cpuinfo", tmp_path / "none") == architecture
    (tmp_path / "model").write_bytes(b"Tiny Board 4\0")
    assert cpu_name(tmp_path / "cpuinfo", tmp_path / "model") == f"Tiny Board 4 ({architecture})"


def test_peak_memory_of_linux_and_of_other_systems(tmp_path, monkeypatch):
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n")
    assert peak_memory(tmp_path / "status") == (2048 * 1024, "VmHWM")
    found, source = peak_memory(tmp_path / "none")
    assert source == "ru_maxrss" and found >= 2**20
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(tmp_path / "none") == (None, "not measured")


def test_peak_memory_grows_by_what_is_allocated():
    code = "from ee_runtime.machine import peak_memory as p; a = p()[0]; x = b'x' * 2**27; print(p()[0] - a)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.9 * 2**27 < int(done.stdout) < 1.1 * 2**27


def test_versions_are_those_of_loaded_libraries(monkeypatch):
    versions = loaded_versions()
    assert versions["python"] == platform.python_version() and versions["numpy"] == np.__version__
    monkeypatch.delitem(sys.modules, "numpy")
    assert "numpy" not in loaded_versions()
