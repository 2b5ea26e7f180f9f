# SPDX-License-Identifier: Apache-2.0
"""The registry of scores."""

import pytest

from ee_runtime.policies.scores import SCORES, check_score_names


def test_unknown_score_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'entropie'; known: entropy, entropy_nonblank"):
        check_score_names(["entropy", "entropie"])


def test_directions():
    surer = {name: info.higher_is_surer for name, info in SCORES.items()}
    assert {name for name, higher in surer.items() if higher} == {
        *("confidence", "confidence_min", "agreement", "posterior", "attention_confidence", "ctc_attention_agreement"),
    }
    assert {name for name, higher in surer.items() if higher is None} == {"token_rate"}
