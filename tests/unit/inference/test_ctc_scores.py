# SPDX-License-Identifier: Apache-2.0
"""Exit scores: hand-worked values, padding, batch independence, invalid inputs."""

import math

import pytest
import torch
from torch.testing import assert_close

from ee_runtime.policies.scores import COMPUTED, SCORES
from speechbrain_ee.inference import ctc_scores
from speechbrain_ee.lobes import ExitOutput


def compute_scores(log_probs, lengths, *, previous=None, **options):
    before = None if previous is None else ExitOutput(previous, lengths)
    return ctc_scores.compute_scores(ExitOutput(log_probs, lengths), before, **options)


def _log_probs(*frames):
    return torch.tensor([frames], dtype=torch.float32).log()


def test_hand_worked_values():
    # Entropies in units of log 4: 0 (certain blank), 1/2 (two of four), 1 (uniform, best is 0).
    frames = _log_probs([1, 0, 0, 0], [0, 0.5, 0.5, 0], [0.25, 0.25, 0.25, 0.25])
    scores = compute_scores(frames, torch.tensor([3]))
    assert set(scores) == set(COMPUTED) <= set(SCORES)
    assert_close(scores["entropy"], torch.tensor([0.5]))
    assert_close(scores["entropy_nonblank"], torch.tensor([0.5]))
    assert_close(scores["confidence"], torch.tensor([1.75 / 3]))
    assert_close(scores["confidence_min"], torch.tensor([0.25]))
    # order 1/3, V = 4: sum of p^(1/3) is 1, 2 * 0.5^(1/3) = 1.5874 and 4^(2/3) = 2.5198, the largest there is
    tsallis = 0.5874011 / 1.5198421
    assert_close(scores["tsallis"], torch.tensor([(0 + tsallis + 1) / 3]))
    assert_close(scores["renyi"], torch.tensor([(0 + 0.5 + 1) / 3]))  # log 2 / log 4 for two of four
    assert_close(scores["tsallis_nonblank"], torch.tensor([tsallis]))
    assert_close(scores["renyi_nonblank"], torch.tensor([0.5]))
    assert_close(scores["token_rate"], torch.tensor([1 / 3]))


def test_comparison_with_the_exit_before_by_hand():
    before = _log_probs([0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1])  # tokens 1 2
    here = _log_probs([0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8])  # tokens 1 1 2
    scores = compute_scores(here, torch.tensor([4]), previous=before)
    assert_close(scores["agreement"], torch.tensor([2 / 3]))  # one insertion, three tokens
    assert_close(scores["change"], torch.tensor([(0 + 0 + 0.7 + 0.7) / 4]))
    assert compute_scores(here, torch.tensor([4]), previous=here)["agreement"].item() == 1.0
    first = compute_scores(here, torch.tensor([4]))
    assert (first["agreement"].item(), first["change"].item()) == (0.0, 1.0)


def test_two_empty_texts_agree_in_nothing():
    blanks = _log_probs([0.9, 0.1], [0.9, 0.1])
    assert compute_scores(blanks, torch.tensor([2]), previous=blanks)["agreement"].item() == 0.0


def test_only_what_is_asked_for_is_computed():
    assert set(compute_scores(torch.zeros(1, 3, 4).log_softmax(-1), torch.tensor([3]), names=["renyi"])) == {"renyi"}
    with pytest.raises(ValueError, match="'posterior' comes from a beam search"):
        compute_scores(torch.zeros(1, 3, 4), torch.tensor([3]), names=["posterior"])


def test_blank_index_decides_which_frames_count():
    frames = _log_probs([0.9, 0.1], [0.5, 0.5], [0.1, 0.9])
    entropy_of_09 = -(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1))
    by_first = compute_scores(frames, torch.tensor([3]), blank_index=0)["entropy_nonblank"]
    by_second = compute_scores(frames, torch.tensor([3]), blank_index=1)["entropy_nonblank"]
    assert_close(by_first, torch.tensor([entropy_of_09]))
    assert_close(by_second, torch.tensor([(entropy_of_09 + 1) / 2]))  # the tie counts as token 0


def test_thresholds_transfer_between_vocabularies():
    for vocab_size in (2, 7, 500):
        uniform = torch.full((1, 3, vocab_size), 1 / vocab_size).log()
        assert_close(compute_scores(uniform, torch.tensor([3]))["entropy"], torch.tensor([1.0]))


@pytest.mark.parametrize("padding", [0.0, -50.0, float("nan"), float("inf"), float("-inf")])
def test_padding_changes_no_score(padding):
    torch.manual_seed(0)
    lengths = [7, 3, 1]
    alone = [torch.randn(2, n, 11).mul(3).log_softmax(-1) for n in lengths]  # this exit and the one before
    batch = torch.full((2, 3, 90, 11), padding)
    for row, one in enumerate(alone):
        batch[:, row, : one.shape[1]] = one
    together = compute_scores(batch[0], torch.tensor(lengths), previous=batch[1])
    for row, one in enumerate(alone):
        scores = compute_scores(one[:1], torch.tensor([lengths[row]]), previous=one[1:])
        for name in COMPUTED:
            # Frames are summed in float64, so only the last bit of float32 may differ.
            assert_close(together[name][row], scores[name][0], rtol=0, atol=1e-7)


def test_nothing_recognised_is_least_sure():
    blanks = _log_probs([0.99, 0.01], [0.99, 0.01])
    assert compute_scores(blanks, torch.tensor([2]))["entropy_nonblank"].item() == 1.0


def test_no_frame_is_least_sure():
    scores = compute_scores(torch.zeros(1, 4, 3).log_softmax(-1), torch.tensor([0]))
    for name, value in scores.items():
        assert value.item() == (0.0 if SCORES[name].higher_is_surer or name == "token_rate" else 1.0), name


def test_nan_in_a_valid_frame_is_not_hidden():
    log_probs = torch.zeros(2, 3, 4).log_softmax(-1)
    log_probs[0, 1] = float("nan")
    scores = compute_scores(log_probs, torch.tensor([3, 3]))
    for name in set(COMPUTED) - {"agreement"}:  # there is no exit before
        assert scores[name].isnan().tolist() == [True, False]


def test_half_precision_is_computed_in_float32():
    log_probs = torch.randn(2, 40, 16, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    rounded = log_probs.bfloat16()
    lengths = torch.tensor([40, 20])
    scores = compute_scores(rounded, lengths)
    for name, expected in compute_scores(rounded.float(), lengths).items():
        assert scores[name].dtype == torch.float32
        assert_close(scores[name], expected, rtol=0, atol=0)


def test_relative_lengths_are_refused():
    with pytest.raises(ValueError, match="convert relative wav_lens"):
        compute_scores(torch.zeros(1, 3, 4), torch.tensor([1.0]))


@pytest.mark.parametrize("shape", [(3, 4), (1, 3, 1)])
def test_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"must be \(batch, frames, vocab\)"):
        compute_scores(torch.zeros(shape), torch.tensor([1]))


@pytest.mark.parametrize("blank_index", [-1, 4])
def test_blank_outside_the_vocabulary_is_refused(blank_index):
    with pytest.raises(ValueError, match="choose 0..3"):
        compute_scores(torch.zeros(1, 3, 4), torch.tensor([3]), blank_index=blank_index)


def test_tokens_in_the_padding_are_neither_counted_nor_compared():
    said = _log_probs([0.1, 0.9], [0.9, 0.1], [0.1, 0.9])  # a, blank, and an a in the padding
    rate = compute_scores(said, torch.tensor([2]), names=["token_rate"])["token_rate"]
    assert rate.item() == 0.5  # one token in two frames
    padded_otherwise = _log_probs([0.1, 0.9], [0.9, 0.1], [0.9, 0.1])
    names = {"names": ["agreement"], "previous": padded_otherwise}
    assert compute_scores(said, torch.tensor([2]), **names)["agreement"].item() == 1.0
    assert compute_scores(said, torch.tensor([3]), **names)["agreement"].item() == 0.5
