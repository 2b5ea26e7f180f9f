# SPDX-License-Identifier: Apache-2.0
"""A run folder that was written before the modules were moved into packages is read and resumed.

``earlier_run`` is such a run of two epochs, made by ``recipes.tiny`` with a smaller model. Its paths were edited; its
logs and plots were removed.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from recipes import tiny
from speechbrain_ee import EarlyExitASR
from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.evaluation.page.run_page import write_run_page
from speechbrain_ee.replay.utterances import read_utterances
from speechbrain_ee.training.hparams import load_hparams

EARLIER = Path(__file__).parent / "earlier_run"
OPTIONS = {
    "d_model": 8,
    "d_ffn": 8,
    "channels": "[2, 2, 2]",
    "num_layers": 2,
    "exit_layers": "[1, 2]",
    "n_mels": 10,
    "average_checkpoints": 1,
}


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(EARLIER, tmp_path / "run")


def test_it_transcribes_with_its_calibration(run, tmp_path):
    corpus = tiny.write_corpus(tmp_path / "corpus")
    asr = EarlyExitASR.from_hparams(run)
    assert asr.policy.to_dict() == json.loads((run / "calibration.json").read_text())["policy"]
    lines = read_utterances(run / "eval" / "test" / "utterances.jsonl")
    for line in lines:
        result = asr.transcribe_file(corpus / Path(line["audio_filepath"]).name)
        (known,) = (one for one in line["exits"] if one["layer"] == result.exit_layer)
        assert result.text == known["hypothesis"]


def test_it_is_calibrated_again_and_reported(run):
    utterances = read_utterances(run / "eval" / "dev" / "utterances.jsonl")
    assert calibrate(utterances, score="entropy", target={"max_wer_increase": 5.0})["fitted_on"]["num_utterances"] == 6
    write_run_page(run, run / "report.html")
    assert (run / "report.html").stat().st_size > 0


def test_its_yaml_names_the_old_modules_and_is_read(run):
    hparams = load_hparams(str(run / "hyperparams.yaml"), {"output_folder": str(run), "save_folder": str(run / "save")})
    assert hparams["loss"].weights == [pytest.approx(2 / 3), pytest.approx(4 / 3)]
    assert "decoder" not in hparams and hparams["valid_decoder"].__name__ == "GreedyCTC"


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals and fork")
def test_it_is_resumed(run, tmp_path):
    corpus = tiny.write_corpus(tmp_path / "corpus")
    before = tiny.curve(run)
    ended = tiny.train(tiny.arguments(corpus, run, **OPTIONS, number_of_epochs=3), tmp_path / "log")
    assert ended.status == 0, ended.stderr
    assert tiny.curve(run)[:2] == before and len(tiny.curve(run)) == 3
