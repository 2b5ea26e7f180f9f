# SPDX-License-Identifier: Apache-2.0
"""Words of a CTC best path, with frames and confidences."""

from ee_runtime.text.spans import greedy_spans
from speechbrain_ee.text.tokenizer import Tokenizer


def test_frames_and_confidences_by_hand(tmp_path):
    tokenizer = Tokenizer.train(["ab c"], path=tmp_path / "t.model", model_type="char")
    space, a, b, c = (tokenizer.vocab_list.index(piece) for piece in "▁abc")
    path = [space, a, a, 0, b, 0, space, 0, c, 0]
    confidences = [0.9, 0.8, 0.7, 1.0, 0.95, 1.0, 0.3, 1.0, 0.5, 1.0]
    assert greedy_spans(path, confidences, tokenizer) == [("ab", 1, 5, 0.7), ("c", 8, 9, 0.5)]
