# SPDX-License-Identifier: Apache-2.0
"""A stock SpeechBrain recipe trains with our encoder, heads and loss after changes to its yaml and a few lines."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

ROOT = Path(__file__).parents[2]
FOREIGN = Path(__file__).parent / "foreign"
TEXTS = ["A CAT", "THE HAT", "A TALL HAT", "THE CAT SAT"]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder, rng, rows = tmp_path_factory.mktemp("toy"), np.random.default_rng(0), {}
    for number, text in enumerate(TEXTS):
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(12800 + 1600 * number), 16000)
        rows[f"utterance{number}"] = {"wav": f"{{data_root}}/{number}.wav", "wrd": text}
    (folder / "train.json").write_text(json.dumps(rows))
    command = [sys.executable, "train.py", "train.yaml", "--data_folder", folder, "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), cwd=FOREIGN, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "results"


def test_two_steps_lower_the_loss_of_every_exit(results):
    log = (results / "train_log.txt").read_text()
    assert re.findall(r"steps: (\d+)", log) == ["1", "2"]
    for name in ("loss", "exit_0", "exit_1"):
        before, after = map(float, re.findall(rf"train {name}: ([\d.e+-]+)", log))
        assert after < before, name


def test_its_checkpoint_has_every_layer_and_head(results):
    (checkpoint,) = (results / "save").glob("CKPT*")
    encoder, heads = (torch.load(checkpoint / f"{name}.ckpt", weights_only=True) for name in ("encoder", "heads"))
    layers = {int(match.group(1)) for key in encoder if (match := re.search(r"encoder\.layers\.(\d+)\.", key))}
    assert layers == {0, 1, 2, 3}
    assert {key.split(".")[1] for key in heads} == {"0", "1"}
