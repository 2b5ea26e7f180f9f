# SPDX-License-Identifier: Apache-2.0
"""The training script on Chinese texts, at the first call and with nothing said about tokens."""

import json
import os

import pytest

from ee_runtime.calibration.file import read_calibration
from ee_runtime.text.error_units import CHAR
from recipes import tiny
from speechbrain_ee import EarlyExitASR
from speechbrain_ee.evaluation.page.run_page import write_run_page
from speechbrain_ee.replay.replay import static_wer
from speechbrain_ee.replay.utterances import read_utterances

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and fork")

LETTERS = dict(zip(tiny.WORDS, "\u4f60\u597d\u5929\u6c14\u4e66\u7535", strict=True))  # a character for each tone
UNSEEN = "\u9f99"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return the corpus of tones, with a Chinese character for each word and no spaces; dev has an unseen one."""
    folder = tiny.write_corpus(tmp_path_factory.mktemp("corpus"))
    for split in tiny.SPLITS:
        rows = tiny.read_rows(folder / f"{split}.jsonl")
        for row in rows:
            row["text"] = "".join(LETTERS[word] for word in row["text"].split())
        if split == "dev":
            rows[2]["text"] += UNSEEN
        tiny.write_rows(folder / f"{split}.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """Return the run folder and the finished process; no option is about tokens or the warm-up."""
    run = tmp_path_factory.mktemp("runs") / "chinese"
    options = dict.fromkeys(("token_type", "vocab_size", "alphabet", "warmup_steps"))
    ended = tiny.train(tiny.arguments(corpus, run, **options, error_unit="char"), run.parent / "log")
    assert ended.status == 0, ended.stderr
    return run, ended


def test_it_trains_and_every_table_is_in_cer(finished):
    run, ended = finished
    assert "WER % [95 %]" not in ended.stdout and ended.stdout.count(" CER % [95 %]") == 2
    assert "dev: 6 utterances, " in ended.stdout and " characters\n" in ended.stdout
    log = (run / "log.txt").read_text("utf-8")
    assert "warmup_steps 250 do not fit into the " in log
    assert f" characters of the texts are unknown to the tokenizer ('{UNSEEN}'): they count as errors" in log
    assert all("valid cer_3: " in line and "wer" not in line for line in tiny.curve(run))
    asr = EarlyExitASR.from_hparams(run)
    assert (asr.error_unit, sorted(asr.tokenizer.vocab_list[3:])) == (CHAR, sorted([*LETTERS.values(), "\u2581"]))


def test_its_files_say_that_characters_are_counted(finished):
    run, _ = finished
    exits = json.loads((run / "eval" / "dev" / "exits.json").read_text("utf-8"))
    lines = read_utterances(run / "eval" / "dev" / "utterances.jsonl", CHAR)
    assert exits["error_unit"] == "char"
    assert [row["cer"] for row in exits["exits"]] == pytest.approx(list(static_wer(lines).values()))
    assert exits["num_words"] == 6 and exits["num_chars"] == sum(len(line["reference"]) for line in lines)
    assert {"cer", "wer", "mean_layer"} == exits["oracle"].keys()
    assert (run / "eval" / "dev" / "exits.csv").read_text().startswith("layer,cer,cer_low,cer_high,wer,")
    calibration = read_calibration(run / "calibration.json")
    assert calibration["error_unit"] == "char" and calibration["target"] == {"max_cer_increase": 0.2}
    assert {"cer", "full_cer"} <= calibration["fitted_on"].keys()
    curves = json.loads((run / "eval" / "dev" / "policies.json").read_text("utf-8"))
    assert all("cer" in one and "wer" not in one for entries in curves.values() for one in entries)
    write_run_page(run, run / "report.html")
    assert "WER % [95 %]" not in (run / "report.md").read_text("utf-8")


def test_the_same_command_trains_no_more(finished, corpus, tmp_path):
    run, _ = finished
    before = tiny.curve(run), tiny.weights(run)
    options = dict.fromkeys(("token_type", "vocab_size", "alphabet", "warmup_steps"))
    ended = tiny.train(tiny.arguments(corpus, run, **options, error_unit="char"), tmp_path)
    assert ended.status == 0, ended.stderr
    assert (tiny.curve(run), tiny.weights(run)) == before
