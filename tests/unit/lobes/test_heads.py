# SPDX-License-Identifier: Apache-2.0
"""Exit heads."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from unit.models import D_MODEL, VOCAB, make_heads

from speechbrain_ee.lobes import CTCHeads
from speechbrain_ee.lobes.heads import HEAD_KINDS


def test_linear_head_by_hand():
    heads = CTCHeads(num_exits=1, d_model=2, vocab_size=2)
    linear = heads.heads[0][-1]
    linear.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    linear.bias.data = torch.tensor([0.0, 1.0])
    output = heads.head(0, torch.tensor([[[2.0, 1.0]]]), torch.tensor([1]))  # logits 2, 2
    torch.testing.assert_close(output.log_probs.exp(), torch.tensor([[[0.5, 0.5]]]))


@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize("shared", [False, True])
def test_forward_is_each_head_and_untied_heads_differ(kind, shared):
    heads = make_heads(kind=kind, shared=shared)
    state, lengths = torch.randn(2, 5, D_MODEL), torch.tensor([5, 2])
    outputs = heads([state] * 3, lengths)
    for index, one in enumerate(outputs):
        assert torch.equal(one.log_probs, heads.head(index, state, lengths).log_probs)
        torch.testing.assert_close(one.log_probs.exp().sum(-1), torch.ones(2, 5))
        assert one.lengths is lengths and one.state is state
    assert torch.equal(outputs[0].log_probs, outputs[2].log_probs) == shared
    assert len(heads.heads) == (1 if shared else 3)


def test_parameters_and_macs_by_hand():
    count = lambda heads: sum(one.numel() for one in heads.parameters())  # noqa: E731
    linear = make_heads(num_exits=2)
    assert count(linear) == 2 * (16 * VOCAB + VOCAB)
    assert linear.macs(5) == 5 * 16 * VOCAB
    mlp = make_heads(num_exits=1, kind="mlp", hidden_size=7)
    assert count(mlp) == 2 * 16 + (16 * 7 + 7) + (7 * VOCAB + VOCAB)
    assert mlp.macs(5) == 5 * (16 * 7 + 7 * VOCAB)
    blstm = make_heads(num_exits=1, kind="blstm", hidden_size=7)
    assert count(blstm) == 2 * 16 + 2 * 4 * (7 * 16 + 7 * 7 + 2 * 7) + (14 * VOCAB + VOCAB)
    assert blstm.macs(5) == 5 * (2 * 4 * 7 * (16 + 7) + 14 * VOCAB)
    assert make_heads(num_exits=1, kind="mlp").macs(5) == 5 * (16 * 16 + 16 * VOCAB)  # as wide as the encoder
    assert make_heads(num_exits=1, kind="blstm").macs(5) == 5 * (2 * 4 * 8 * (16 + 8) + 16 * VOCAB)  # 8 each way


def test_law_4_a_recurrent_head_begins_at_the_end_of_the_utterance():
    heads, lengths = make_heads(num_exits=1, kind="blstm"), torch.tensor([9, 4])
    state = torch.randn(2, 9, D_MODEL)
    together = heads.head(0, state, lengths).log_probs
    alone = heads.head(0, state[1:, :4], lengths[1:]).log_probs
    torch.testing.assert_close(together[1, :4], alone[0], atol=1e-6, rtol=1e-5)


def test_a_recurrent_head_is_one_bidirectional_lstm_over_a_packed_batch():
    head, lengths = make_heads(num_exits=1, kind="blstm", hidden_size=7).heads[0][1], torch.tensor([3, 9, 4])
    stock = torch.nn.LSTM(D_MODEL, 7, bidirectional=True, batch_first=True)
    for name, parameter in stock.named_parameters():
        own = head.back if name.endswith("_reverse") else head.ahead
        parameter.data = own.state_dict()[name.removesuffix("_reverse")]
    state = torch.randn(3, 9, D_MODEL)
    packed = pack_padded_sequence(state, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(stock(packed)[0], batch_first=True)
    torch.testing.assert_close(head(state, lengths), expected, atol=1e-6, rtol=1e-5)


def test_log_probs_are_float32_under_autocast():
    heads = make_heads()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_probs = heads.head(0, torch.randn(1, 4, D_MODEL), torch.tensor([4])).log_probs
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(1, 4))


def test_dropout_only_in_training():
    heads = make_heads(dropout=0.5)
    state, lengths = torch.randn(1, 4, D_MODEL), torch.tensor([4])

    def log_probs():
        return heads.head(0, state, lengths).log_probs

    assert torch.equal(log_probs(), log_probs())
    heads.train()
    assert not torch.equal(log_probs(), log_probs())


def test_rows_and_kept_utterances_are_cropped_to_their_frames():
    output = make_heads().head(0, torch.randn(3, 4, D_MODEL), torch.tensor([4, 2, 3]))
    alone, kept = output.row(1), output.keep([1, 2])
    assert torch.equal(alone.log_probs, output.log_probs[1:2, :2]) and torch.equal(alone.state, output.state[1:2, :2])
    assert torch.equal(kept.log_probs, output.log_probs[1:, :3]) and torch.equal(kept.state, output.state[1:, :3])
    assert alone.lengths.tolist() == [2] and kept.lengths.tolist() == [2, 3]
    assert output.keep([0, 1, 2]) is output


def test_best_paths_are_those_of_the_valid_frames_and_computed_once():
    output = make_heads().head(0, torch.randn(3, 4, D_MODEL), torch.tensor([4, 2, 3]))
    assert [len(path) for path in output.best_paths] == [4, 2, 3]
    assert output.best_paths[1] == output.log_probs[1, :2].argmax(-1).tolist()
    assert output.best is output.best
    changed = output._replace(log_probs=-output.log_probs)
    assert changed.best_paths[1] == output.log_probs[1, :2].argmin(-1).tolist(), "nothing is left of the old tensors"


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="'conv' is not one of linear, norm_linear, mlp, blstm"):
        make_heads(kind="conv")
    with pytest.raises(ValueError, match="num_exits=0"):
        make_heads(num_exits=0)
    with pytest.raises(ValueError, match="got 2 states for 3 exit heads"):
        make_heads()([torch.randn(1, 4, D_MODEL)] * 2, torch.tensor([4]))
