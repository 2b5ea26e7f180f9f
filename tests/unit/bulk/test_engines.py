# SPDX-License-Identifier: Apache-2.0
"""Processes that run batches."""

import os
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys, time
from speechbrain_ee.bulk.engines import Processes

class Work:
    def open(self):
        return str

if __name__ == "__main__":
    try:
        list(Processes(2)(Work(), [1, 2]))
    except KeyboardInterrupt:
        sys.exit(130)
else:
    os.write(1, b"starting ")
    time.sleep(20)  # as long imports
"""


@pytest.mark.skipif(os.name == "nt", reason="groups of processes")
def test_ctrl_c_while_processes_start_prints_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert os.read(process.stdout.fileno(), 8) == b"starting"
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")
