# SPDX-License-Identifier: Apache-2.0
"""The root of the package: its exports, and what can be imported without torch."""

import subprocess
import sys

import pytest

import speechbrain_ee


@pytest.mark.parametrize("name", speechbrain_ee.__all__)
def test_every_export_exists(name):
    assert getattr(speechbrain_ee, name).__name__ == name
    assert name in dir(speechbrain_ee)


def test_the_recogniser_is_also_an_export_of_its_package():
    from speechbrain_ee import inference

    assert inference.EarlyExitASR is speechbrain_ee.EarlyExitASR
    with pytest.raises(AttributeError, match="has no attribute 'EarlyExitTTS'"):
        _ = inference.EarlyExitTTS


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="has no attribute 'EarlyExitTTS'"):
        _ = speechbrain_ee.EarlyExitTTS


@pytest.mark.parametrize(
    ("missing", "modules"),
    [
        ("torch numpy scipy speechbrain", "speechbrain_ee ee_runtime.policies ee_runtime.special_tokens"),
        ("torch speechbrain", "speechbrain_ee.replay.equal_cost ee_runtime.audio ee_runtime.text.spans"),
        ("torch speechbrain", "speechbrain_ee.corpora.manifest"),
        (
            "torch speechbrain speechbrain_ee sentencepiece scipy soundfile soxr",
            "ee_runtime.runtime ee_runtime.output ee_runtime.cli",
        ),
    ],
)
def test_the_lower_floors_need_no_torch(missing, modules):
    blocked = ", ".join(f"{name}=None" for name in missing.split())
    code = f"import sys; sys.modules.update({blocked}); import {modules.replace(' ', ', ')}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_itself_is_cheap_to_import():
    code = "import sys; before = set(sys.modules); import speechbrain_ee; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10
