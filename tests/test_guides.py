# SPDX-License-Identifier: Apache-2.0
"""Runs the code of the guide on extensions, in a copy of the package with the changes that the guide shows."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from commands import ROOT

BLOCK = re.compile(r"^```(python|pycon|diff)\n(.*?)^```", re.DOTALL | re.MULTILINE)
NEW_FILE = re.compile(r"# ((?:speechbrain_ee|runtime)/\S+\.py)\n")


@pytest.fixture
def copy(tmp_path):
    for folder in ("speechbrain_ee", "runtime/ee_runtime"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def write_session(copy, text) -> None:
    """Apply the diffs and new files of a page to the copy; the rest becomes one doctest session, in order."""
    session = []
    for number, (language, content) in enumerate(BLOCK.findall(text)):
        new_file = NEW_FILE.match(content)
        if language == "diff":
            subprocess.run(["git", "apply", "-"], input=content, text=True, cwd=copy, check=True)
        elif language == "pycon":
            session.append(content)
        elif new_file:
            (copy / new_file[1]).write_text(content, "utf-8")
        else:
            (copy / f"block_{number}.py").write_text(content, "utf-8")
            session.append(f">>> exec(open('block_{number}.py').read())\n")
    (copy / "session.txt").write_text("\n".join(session), "utf-8")


def run_session(copy) -> str:
    """Run the session in a process that imports the copy; returns the failures that doctest prints."""
    paths = os.pathsep.join([str(copy), str(copy / "runtime")])
    command = [sys.executable, "-m", "doctest", "session.txt"]
    done = subprocess.run(
        command, cwd=copy, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    return done.stdout + (done.stderr if done.returncode else "")


def test_the_code_of_the_guide_works(copy):
    write_session(copy, (ROOT / "docs/guide/extend.md").read_text("utf-8"))
    assert (copy / "session.txt").read_text("utf-8").count(">>> ") >= 20
    assert run_session(copy) == ""


def test_wrong_output_in_a_guide_is_found(copy):
    write_session(copy, "```python\nx = 2\n```\n\n```pycon\n>>> x\n3\n```\n")
    assert "Expected:\n    3\nGot:\n    2" in run_session(copy)


def test_a_diff_that_does_not_fit_is_found(copy):
    diff = "--- a/speechbrain_ee/errors.py\n+++ b/speechbrain_ee/errors.py\n@@ -1,1 +1,2 @@\n not there\n+new\n"
    with pytest.raises(subprocess.CalledProcessError):
        write_session(copy, f"```diff\n{diff}```\n")
