# SPDX-License-Identifier: Apache-2.0
"""Reading files of others: devices and pipes, sizes, and JSON that breaks parsers."""

import json
import os

import pytest

from ee_runtime.calibration.file import read_calibration
from ee_runtime.errors import print_error
from ee_runtime.files import parse_json, read_bytes

POLICY = {"policy": "score_threshold", "score": "entropy", "threshold": 0.1}
MAP = {"x": [0.0, 1.0], "y": [0.2, 0.6]}


def test_a_file_is_read_up_to_its_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert read_bytes(tmp_path / "a", max_bytes=3) == b"abc"
    with pytest.raises(ValueError, match="is larger than 2 bytes"):
        read_bytes(tmp_path / "a", max_bytes=2)


@pytest.mark.skipif(os.name == "nt", reason="named pipes and devices")
def test_pipes_and_devices_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "zeros"):
        with pytest.raises(ValueError, match="is not a regular file"):
            read_bytes(tmp_path / name, max_bytes=100)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 200_000, "too many brackets"),
        (b'{"a":' * 200_000, "too many brackets"),
        (b"1" * 5000, "a number of 5000 digits"),
        (b"\xff\xff", "decode"),
        (b"", "Expecting value"),
    ],
)
def test_every_mistake_in_json_is_a_value_error(data, message):
    with pytest.raises(ValueError, match=message):
        parse_json(data)


def calibration(**changes):
    return {"policy": POLICY, "confidence": {"words": {"2": MAP}, "wer": {}}} | changes


def test_a_calibration_is_read(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(calibration()), "utf-8")
    assert read_calibration(path)["policy"] == POLICY


def nested(depth):
    policy = {"policy": "fixed_exit"}
    for _ in range(depth):
        policy = {"policy": "capped", "max_layer": 2, "of": policy}
    return policy


def learned(**changes):
    one = {"mean": [0.0] * 3, "scale": [1.0] * 3, "weights": [[0.1, 0, 0]], "bias": [0.5]} | changes
    score = {"score_names": ["entropy"], "exit_layers": [2, 4], "exits": [one]}
    return {"policy": "learned", "threshold": 0.0, "learned": score | {"per_second": False, "reads_duration": False}}


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([], "is not a JSON object"),
        (calibration(policy=[]), "is not an object of names and values"),
        (calibration(policy={"policy": ["fixed_exit"]}), "unknown exit policy"),
        (calibration(policy=nested(11)), "more than 10 exit policies within each other"),
        (calibration(policy=POLICY | {"threshold": [[0.1]]}), "threshold is"),
        (calibration(policy={"policy": "capped", "max_layer": 2, "of": 7}), "is not an object of names and values"),
        (calibration(policy=learned(scale=[0.0] * 3)), "a scale of 0"),
        (calibration(policy=learned(bias=["a"])), "not numbers"),
        (calibration(policy=learned(weights=[[None, 0, 0]])), "not numbers"),
        (calibration(policy=learned(mean=7)), "does not take|invalid learned score"),
        (calibration(promise=["granted"]), "invalid calibration"),
        (calibration(confidence=None), "entries that are not objects"),
        (calibration(confidence={"words": []}), "entries that are not objects"),
        (calibration(confidence={"stopped": {"wer": {"2": {"x": [], "y": []}}}}), "the wer of exit layer 2"),
        (calibration(confidence={"words": {"2": MAP | {"x": [0.0, 0.0]}}}), "the words of exit layer 2"),
        (calibration(confidence={"words": {"2": MAP | {"y": ["a", "b"]}}}), "the words of exit layer 2"),
        (calibration(confidence={"words": {"2": MAP | {"y": [0.1]}}}), "the words of exit layer 2"),
    ],
)
def test_a_broken_calibration_is_one_line(tmp_path, contents, message):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(contents), "utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_calibration(path)
    assert "calibration.json: invalid calibration" in str(caught.value)


def test_a_long_message_with_escapes_is_printed_as_one_short_line(capsys):
    print_error("ee-transcribe", ValueError(f"{'a' * 10_000}\x1b[2J: do this"))
    line = capsys.readouterr().err
    assert len(line) < 1700 and line.endswith("\\x1b[2J: do this\n") and line.rstrip().isprintable()
