# SPDX-License-Identifier: Apache-2.0
"""Exit layers, segments and the incremental run; the laws are in test_laws.py."""

import pytest
import torch
from unit.models import D_MODEL, FAMILIES, N_MELS, make_batch, make_encoder

from speechbrain_ee.lobes import check_exit_layers


@pytest.mark.parametrize(
    ("exit_layers", "message"),
    [
        ([], "exit_layers is empty"),
        ([0, 6], r"exit_layers \[0, 6\] leave the encoder"),
        ([2, 7], r"exit_layers \[2, 7\] leave the encoder"),
        ([2, 2, 6], r"exit_layers \[2, 2, 6\] repeat a layer"),
        ([4, 2, 6], r"exit_layers \[4, 2, 6\] are not sorted"),
        ([2, 4], r"exit_layers \[2, 4\] do not end at the full encoder"),
        ([2.0, 6], r"exit_layers \[2\.0, 6\] are not all integers"),
        (["2", 6], r"exit_layers \['2', 6\] are not all integers"),
        ([True, 6], r"exit_layers \[True, 6\] are not all integers"),
    ],
)
def test_wrong_exit_layers_are_refused_with_what_is_allowed(exit_layers, message):
    with pytest.raises(ValueError, match=message) as raised:
        check_exit_layers(exit_layers, 6)
    assert "rising integers from 1 to num_layers=6, the last of them 6" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_segments_partition_the_layers():
    encoder = make_encoder("transformer", num_layers=5, exit_layers=[1, 4, 5])
    assert [list(encoder.segment(index)) for index in range(3)] == [[1], [2, 3, 4], [5]]


@torch.no_grad()
def test_advance_beyond_the_end_is_refused():
    encoder = make_encoder("transformer", num_layers=1, exit_layers=[1])
    state, _ = encoder.advance(encoder.start(torch.randn(1, 9, N_MELS), torch.tensor([9])))
    assert state.segments_run == 1
    with pytest.raises(ValueError, match="all 1 segments were run"):
        encoder.advance(state)


@torch.no_grad()
def test_keep_takes_rows_in_the_order_given_and_crops():
    encoder = make_encoder("conformer_relpos")
    lengths = torch.tensor([40, 9, 80, 30])
    state, _ = encoder.advance(encoder.start(torch.randn(4, 80, N_MELS), lengths))
    kept = encoder.keep(state, torch.tensor([3, 1]))
    assert kept.lengths.tolist() == [8, 3]
    assert torch.equal(kept.x[0], state.x[3, :8])
    assert torch.equal(kept.x[1, :3], state.x[1, :3])
    assert kept.mask.tolist() == [[False] * 8, [False] * 3 + [True] * 5]
    assert kept.pos_embs.shape[1] == 15  # relative positions -7 .. 7
    assert kept.segments_run == 1
    assert state.x.shape[0] == 4, "the state it came from is left as it was"
    one = encoder.keep(kept, torch.tensor([1]))
    assert one.x.shape == (1, 3, D_MODEL)
    assert one.mask is None, "nothing is padded"


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_batch_of_one_frame(family):
    states, lengths = make_encoder(family)(*make_batch(family, [1]))
    assert lengths.tolist() == [1]
    for state in states:
        assert state.shape == (1, 1, D_MODEL)
        assert state.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_training_always_masks_so_that_compiled_graphs_stay_one(family):
    encoder = make_encoder(family)
    feats, lengths = make_batch(family, [20, 20])
    assert encoder.start(feats, lengths).mask is None
    assert encoder.train().start(feats, lengths).mask is not None
    with_mask, _ = encoder(feats, lengths)
    without_mask, _ = encoder.eval()(feats, lengths)
    for one, other in zip(with_mask, without_mask, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_forward_under_bfloat16_autocast_stays_near_float32(family):
    encoder = make_encoder(family)
    feats, lengths = make_batch(family, [60, 21])
    expected, frames = encoder(feats, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states, half_frames = encoder(feats, lengths)
    assert torch.equal(frames, half_frames)
    for state, full in zip(states, expected, strict=True):
        for row, length in enumerate(frames):
            # bfloat16 keeps 8 bits: 0.4 % a product, over some forty of them in a row
            difference = (state[row, :length].float() - full[row, :length]).norm() / full[row, :length].norm()
            assert difference < 0.05
