# SPDX-License-Identifier: Apache-2.0
"""utterances.jsonl: round trips, and lines that are refused by number."""

import json
import math

import pytest
from unit.cases import subset, three_utterances

from speechbrain_ee.replay.utterances import read_utterances, write_utterances


@pytest.fixture
def utterances():
    return three_utterances()


def test_round_trip(tmp_path, utterances):
    # A text may hold what Python, but not JSON, takes for the end of a line.
    utterances[0]["reference"] = "ab\u2028cd \u0085 é"
    write_utterances(tmp_path / "utterances.jsonl", utterances)
    assert read_utterances(tmp_path / "utterances.jsonl") == utterances
    assert len((tmp_path / "utterances.jsonl").read_bytes().splitlines()) == 3


def test_nan_becomes_null_and_comes_back(tmp_path, utterances):
    utterances[0]["exits"][0]["scores"]["entropy"] = float("nan")
    write_utterances(tmp_path / "u.jsonl", utterances)
    first = (tmp_path / "u.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["exits"][0]["scores"]["entropy"] is None
    again = read_utterances(tmp_path / "u.jsonl")
    assert math.isnan(again[0]["exits"][0]["scores"]["entropy"])


def test_the_subset_is_enough(tmp_path, utterances):
    write_utterances(tmp_path / "u.jsonl", subset(utterances))
    assert read_utterances(tmp_path / "u.jsonl") == subset(utterances)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda u: u.pop("id"), "'id' is missing"),
        (lambda u: u.pop("num_words"), "'num_words' is missing"),
        (lambda u: u["exits"][1].pop("scores"), "'scores' is missing"),
        (lambda u: u["exits"][0]["errors"].pop("D"), "'D' is missing"),
        (lambda u: u.update(exits=5), "wrong type"),
        (lambda u: u.update(exits=[]), r"exit layers \[\]"),
        (lambda u: u["exits"].reverse(), r"exit layers \[4, 2\]"),
        (lambda u: u["exits"].pop(), r"exit layers \[2\] .* \[2, 4\]"),
        (lambda u: u.update(num_words=-1), "whole numbers"),
        (lambda u: u["exits"][0]["errors"].update(S=0.5), "whole numbers"),
        (lambda u: u["exits"][0]["scores"].update(luck=1), "'luck'; known: entropy, "),
        (lambda u: u.update(id="a"), "id 'a' occurs twice"),
    ],
)
def test_a_broken_line_is_named(tmp_path, utterances, change, message):
    path = tmp_path / "u.jsonl"
    change(utterances[1])
    path.write_text("".join(json.dumps(u) + "\n" for u in utterances))
    with pytest.raises(ValueError, match=rf"u\.jsonl:2: .*{message}") as error:
        read_utterances(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message):
        write_utterances(tmp_path / "new.jsonl", utterances)
    assert not (tmp_path / "new.jsonl").exists()


def test_no_json_no_file_no_line(tmp_path):
    path = tmp_path / "u.jsonl"
    with pytest.raises(ValueError, match="cannot read .*evaluate a manifest first"):
        read_utterances(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="no utterances; evaluate a manifest first"):
        read_utterances(path)
    path.write_text("{\n")
    with pytest.raises(ValueError, match=r"u\.jsonl:1: not JSON"):
        read_utterances(path)
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match=r"u\.jsonl:1: .*wrong type"):
        read_utterances(path)
