# SPDX-License-Identifier: Apache-2.0
"""Processes that run batches."""

import os
import signal
import subprocess
import sys
from functools import partial

import pytest

SCRIPT = """
import os, sys, time
from speechbrain_ee.bulk.engines import Processes

class Work:
    def open(self):
        return str

if __name__ == "__main__":
    try:
        print(*sorted(Processes(2)(Work(), [1, 2])))
    except KeyboardInterrupt:
        sys.exit(130)
else:
    os.write(1, b"starting ")
    time.sleep(float(sys.argv[1]))  # as long imports
"""


needs_groups = pytest.mark.skipif(os.name == "nt", reason="groups of processes")


@needs_groups
def test_ctrl_c_while_processes_start_prints_nothing(tmp_path):
    process, _, err = interrupted(tmp_path, seconds=20)
    assert (process.returncode, err) == (130, b"")


@needs_groups
def test_ctrl_c_does_not_end_processes_of_a_command_in_the_background(tmp_path):
    ignoring = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    process, out, err = interrupted(tmp_path, seconds=0.5, preexec_fn=ignoring)
    assert (process.returncode, err) == (0, b"") and out.endswith(b"(0, '1') (1, '2')\n")


def interrupted(folder, *, seconds, **options):
    """Run the script, and press Ctrl-C as soon as a process of it starts."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command, pipes = [sys.executable, script, str(seconds)], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, start_new_session=True, **pipes, **options)
    assert os.read(process.stdout.fileno(), 8) == b"starting"
    os.killpg(process.pid, signal.SIGINT)
    return process, *process.communicate(timeout=60)
