# SPDX-License-Identifier: Apache-2.0
"""Sets that cannot be calibrated on are refused."""

import json

import pytest

from speechbrain_ee.calibration.checks import check_evaluated


def test_a_set_with_missing_utterances_is_not_calibrated_on(tmp_path):
    exits = {"decoding": "greedy CTC", "model": "abc", "missing": {"u7": "half.flac cannot be read"}}
    (tmp_path / "exits.json").write_text(json.dumps(exits))
    with pytest.raises(ValueError, match="lacks 1 utterances that could not be evaluated .first: u7."):
        check_evaluated(tmp_path, "abc", "greedy CTC")


def test_only_what_this_model_has_read_greedily_is_calibrated_on(tmp_path):
    (tmp_path / "exits.json").write_text('{"decoding": "greedy CTC", "model": "abc"}')
    check_evaluated(tmp_path, "abc", "greedy CTC")
    with pytest.raises(ValueError, match="was evaluated with another model .abc, this one is def.: evaluate it again"):
        check_evaluated(tmp_path, "def", "greedy CTC")
    (tmp_path / "exits.json").write_text('{"decoding": "CTC beam 50"}')
    with pytest.raises(ValueError, match="was decoded with CTC beam 50, but transcribe uses greedy CTC"):
        check_evaluated(tmp_path, "abc", "greedy CTC")
