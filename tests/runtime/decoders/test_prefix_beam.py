# SPDX-License-Identifier: Apache-2.0
"""Prefix beam search compared with the sum over all paths, and words of beam results."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest

from ee_runtime.decoders.prefix_beam import PrefixBeamCTC, search
from ee_runtime.onnx_run import OnnxOutput
from ee_runtime.text.ctc_paths import align, collapse
from ee_runtime.text.vocabulary import PieceVocabulary

PIECES = ["<unk>", "<s>", "</s>", "▁a", "b", "▁c"]
ALL = {"beam_size": 10_000, "beam_prune_logp": -math.inf, "token_prune_min_logp": -math.inf}


def random_log_probs(seed, frames=5):
    logits = 2 * np.random.default_rng(seed).standard_normal((frames, len(PIECES)))
    logits[:, 1:3] = -np.inf  # BOS and EOS
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def sums_over_paths(log_probs):
    """Return the probability of every token sequence, by enumeration."""
    sums = defaultdict(float)
    for path in itertools.product((0, 3, 4, 5), repeat=len(log_probs)):
        sums[tuple(collapse(path))] += math.exp(sum(frame[token] for frame, token in zip(log_probs, path, strict=True)))
    return sums


@pytest.mark.parametrize("seed", range(5))
def test_without_pruning_the_search_is_exact(seed):
    log_probs = random_log_probs(seed)
    sums = sums_over_paths(log_probs)
    found = search(log_probs, n_best=len(sums), **ALL)
    assert {tuple(one.tokens): math.exp(one.log_prob) for one in found} == pytest.approx(dict(sums))
    assert [one.log_prob for one in found] == sorted((one.log_prob for one in found), reverse=True)


def test_probabilities_of_long_utterances_do_not_vanish():
    log_probs = random_log_probs(0, frames=3000)
    best = search(log_probs, beam_size=5)[0]
    assert math.isfinite(best.log_prob) and len(best.tokens) > 100


@pytest.mark.parametrize("seed", range(5))
def test_the_alignment_is_the_best_path_of_the_text(seed):
    log_probs = random_log_probs(seed)
    value = lambda path: sum(frame[token] for frame, token in zip(log_probs, path, strict=True))  # noqa: E731
    for tokens in ([3], [3, 3], [4, 5, 3], [3, 4, 3, 4]):
        paths = [list(path) for path in itertools.product((0, 3, 4, 5), repeat=5) if collapse(path) == tokens]
        found = align(log_probs, tokens)
        assert collapse(found) == tokens
        assert value(found) == pytest.approx(max(map(value, paths)))


def test_frames_too_few_for_the_text_are_all_blank():
    assert align(random_log_probs(0, frames=2), [3, 3]) == [0, 0]
    assert align(random_log_probs(0, frames=2), []) == [0, 0]


def output_of(rows):
    lengths = np.array([len(row) for row in rows])
    log_probs = np.full((len(rows), lengths.max(), len(PIECES)), -20.0)
    for one, row in zip(log_probs, rows, strict=True):
        one[: len(row)] = row
    return OnnxOutput(log_probs, log_probs.max(-1), log_probs.argmax(-1), np.zeros((len(rows), 0)), lengths)


def test_words_have_frames_and_confidences_and_padding_does_not_count():
    log_probs = np.log(np.full((6, len(PIECES)), 0.01))
    for frame, token in enumerate((3, 4, 0, 5, 0, 0)):
        log_probs[frame, token] = math.log(0.9)
    log_probs[3, 5] = math.log(0.6)
    decoder = PrefixBeamCTC(PieceVocabulary(PIECES), beam_size=8)
    short, long = decoder.decode(output_of([log_probs, np.concatenate([log_probs] * 2)]))
    assert short.text == "ab c" and long.text == "ab c ab c"
    first, second = short.spans
    assert (first.text, first.start, first.end) == ("ab", 0, 2)
    assert (second.text, second.start, second.end) == ("c", 3, 4)
    assert second.confidence == pytest.approx(0.6)
    assert 0.5 < short.scores["posterior"] < 1


def test_nan_gives_no_text_and_no_posterior():
    log_probs = random_log_probs(0)
    log_probs[1, 3] = np.nan
    (decoded,) = PrefixBeamCTC(PieceVocabulary(PIECES)).decode(output_of([log_probs]))
    assert decoded.text == "" and math.isnan(decoded.scores["posterior"])


def test_a_beam_below_one_is_refused():
    with pytest.raises(ValueError, match="beam_size is 0: give 1 or more"):
        PrefixBeamCTC(PieceVocabulary(PIECES), beam_size=0)


def test_a_long_text_is_aligned():
    tokens = [3, 4, 5] * 100
    log_probs = np.full((300, len(PIECES)), -9.0)
    log_probs[np.arange(300), tokens] = -0.1
    assert align(log_probs, tokens) == tokens, "more states of the alignment than an int8 can count"
