# SPDX-License-Identifier: Apache-2.0
"""Errors that the user can fix are one line; bugs keep their traceback."""

import errno

import pytest

from ee_runtime.errors import one_line_errors
from speechbrain_ee.errors import CheckpointError


def run(error, capsys):
    with pytest.raises(SystemExit) as raised, one_line_errors("train.py"):
        raise error
    out, err = capsys.readouterr()
    assert out == ""
    return raised.value.code, err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("exit_layers\n  is empty"), "exit_layers is empty"),
        (CheckpointError("it lacks a head"), "it lacks a head"),
        (ImportError('pip install "speechbrain_ee[lm]"'), 'pip install "speechbrain_ee[lm]"'),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.wav"), "[Errno 2] No such file: 'a.wav'"),
        (ValueError(), "ValueError"),
    ],
)
def test_users_errors_are_one_line_and_status_1(error, message, capsys):
    assert run(error, capsys) == (1, f"train.py: error: {message}\n")


def test_ctrl_c_is_status_130(capsys):
    assert run(KeyboardInterrupt(), capsys) == (130, "train.py: interrupted\n")


@pytest.mark.parametrize("error", [RuntimeError("shapes"), KeyError("a"), TypeError(), AssertionError()])
def test_our_bugs_pass_through(error):
    with pytest.raises(type(error)), one_line_errors("train.py"):
        raise error


def test_no_error_no_exit():
    with one_line_errors("train.py"):
        pass
