# SPDX-License-Identifier: Apache-2.0
"""Words with times and confidences, and joined transcripts."""

import pytest

from ee_runtime.text.spans import Span
from ee_runtime.transcript import Transcript, Word, join_transcripts, make_words

SPANS = [Span("ab", 1, 5, 0.7), Span("c", 8, 9, 0.5)]


def test_words_have_seconds_and_end_with_the_audio():
    words = make_words(SPANS, 0.04, duration=0.34)
    assert words == [Word("ab", 0.04, 0.2, 0.7), Word("c", 0.32, 0.34, 0.5)]
    assert words[1].later(10.0) == Word("c", 10.32, 10.34, 0.5)


def test_words_have_calibrated_confidences():
    halved = make_words(SPANS, 0.04, duration=9.0, isotonic_map={"x": [0.0, 1.0], "y": [0.0, 0.5]})
    assert [word.confidence for word in halved] == pytest.approx([0.35, 0.25])


def test_joined_parts_by_hand():
    first = Transcript("a b", 2, 0.1, 100, [Word("a", 0.0, 1.0, 0.9), Word("b", 1.0, 2.0, 0.8)], expected_wer=10.0)
    second, third = (
        Transcript("", 4, 0.3, 200, expected_wer=30.0),
        Transcript("c", 2, 0.2, 50, [Word("c", 0, 1, 0.5)], 0.0),
    )
    joined = join_transcripts([first, second, third], [2.0, 1.0, 1.0])
    assert (joined.text, joined.exit_layer, joined.policy_value, joined.macs) == ("a b c", 4, 0.3, 350)
    assert joined.words == [*first.words, Word("c", 3.0, 4.0, 0.5)]
    assert joined.expected_wer == pytest.approx((2 * 10 + 30 + 0) / 4)
    assert joined.parts == [first, second, third]
