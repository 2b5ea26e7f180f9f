# SPDX-License-Identifier: Apache-2.0
"""Words with times and confidence."""

import pytest
import torch

from speechbrain_ee.decoders.base import frame_confidences
from speechbrain_ee.decoders.ctc import BeamCTC, GreedyCTC
from speechbrain_ee.inference.transcript import Word, make_words
from speechbrain_ee.lobes import ExitOutput
from speechbrain_ee.text.spans import greedy_spans
from speechbrain_ee.text.tokenizer import Tokenizer

TEXTS = ["the cat sat on the mat", "a hat", "at the hat"]


@pytest.fixture(params=["char", "bpe"])
def tokenizer(request, tmp_path):
    size = None if request.param == "char" else 24
    return Tokenizer.train(TEXTS, path=tmp_path / "t.model", model_type=request.param, vocab_size=size)


def test_spans_joined_are_the_greedy_text_whatever_the_path(tokenizer):
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        path = torch.randint(tokenizer.vocab_size, (1, 25), generator=generator)
        log_probs = torch.nn.functional.one_hot(path, tokenizer.vocab_size).float().mul(9).log_softmax(-1)
        decoded = GreedyCTC(tokenizer).decode(ExitOutput(log_probs, torch.tensor([25])))[0]
        assert " ".join(span.text for span in decoded.spans) == decoded.text
        frames = [frame for span in decoded.spans for frame in (span.start, span.end)]
        assert frames == sorted(frames) and all(span.start < span.end for span in decoded.spans)
        assert decoded.scores == {}


def log_probs_of(path, vocab_size, probs):
    rows = torch.full((len(path), vocab_size), 1e-9)
    rows[torch.arange(len(path)), torch.tensor(path)] = torch.tensor(probs)
    return rows.log()


def test_times_and_confidence_by_hand(tmp_path):
    tokenizer = Tokenizer.train(["ab c"], path=tmp_path / "t.model", model_type="char")
    space, a, b, c = (tokenizer.vocab_list.index(piece) for piece in "▁abc")
    path = [space, a, a, 0, b, 0, space, 0, c, 0]
    log_probs = log_probs_of(path, tokenizer.vocab_size, [0.9, 0.8, 0.7, 0.1, 0.95, 0.2, 0.3, 0.9, 0.5, 1.0])
    output = ExitOutput(log_probs.unsqueeze(0), torch.tensor([len(path)]))
    assert output.best_paths == [path]
    spans = greedy_spans(path, frame_confidences(output)[0], tokenizer)
    assert [span[:3] for span in spans] == [("ab", 1, 5), ("c", 8, 9)]
    words = make_words(spans, seconds_per_frame=0.04, duration=99.0)
    assert [(word.text, word.start, word.end) for word in words] == [("ab", 0.04, 0.2), ("c", 0.32, 0.36)]
    assert [word.confidence for word in words] == pytest.approx([0.7, 0.5])  # the blank in between does not count
    knots = {"x": [0.0, 1.0], "y": [0.0, 0.5]}
    halved = make_words(spans, seconds_per_frame=0.04, duration=99.0, confidences=knots)
    assert [word.confidence for word in halved] == pytest.approx([0.35, 0.25])
    assert words[1].later(10.0) == Word("c", 10.32, 10.36, words[1].confidence)


def test_the_beam_gives_the_same_words_where_it_is_certain(tmp_path):
    tokenizer = Tokenizer.train(["ab c"], path=tmp_path / "t.model", model_type="char")
    space, a, b, c = (tokenizer.vocab_list.index(piece) for piece in "▁abc")
    path = [0, a, a, 0, b, space, c, 0]
    log_probs = log_probs_of(path, tokenizer.vocab_size, [0.999] * 8).unsqueeze(0)
    output = ExitOutput(log_probs, torch.tensor([8]))
    greedy, beam = (decoder.decode(output)[0] for decoder in (GreedyCTC(tokenizer), BeamCTC(tokenizer)))
    assert greedy.text == beam.text == "ab c"
    assert [span.text for span in beam.spans] == ["ab", "c"]
    assert 0 < beam.scores["posterior"] <= 1
