# SPDX-License-Identifier: Apache-2.0
"""Exit heads."""

import pytest
import torch
from unit.models import D_MODEL, VOCAB, make_heads

from speechbrain_ee.lobes import CTCHeads


def test_linear_head_by_hand():
    heads = CTCHeads(num_exits=1, d_model=2, vocab_size=2)
    linear = heads.heads[0][-1]
    linear.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    linear.bias.data = torch.tensor([0.0, 1.0])
    log_probs = heads.head(0, torch.tensor([[[2.0, 1.0]]]))  # logits 2, 2
    torch.testing.assert_close(log_probs.exp(), torch.tensor([[[0.5, 0.5]]]))


@pytest.mark.parametrize("kind", ["linear", "norm_linear", "mlp"])
@pytest.mark.parametrize("shared", [False, True])
def test_forward_is_each_head_and_untied_heads_differ(kind, shared):
    heads = make_heads(kind=kind, shared=shared)
    state = torch.randn(2, 5, D_MODEL)
    log_probs = heads([state] * 3)
    for index, one in enumerate(log_probs):
        assert torch.equal(one, heads.head(index, state))
        torch.testing.assert_close(one.exp().sum(-1), torch.ones(2, 5))
    assert torch.equal(log_probs[0], log_probs[2]) == shared
    assert len(heads.heads) == (1 if shared else 3)


def test_parameters_and_macs_by_hand():
    count = lambda heads: sum(one.numel() for one in heads.parameters())  # noqa: E731
    linear = make_heads(num_exits=2)
    assert count(linear) == 2 * (16 * VOCAB + VOCAB)
    assert linear.macs(5) == 5 * 16 * VOCAB
    mlp = make_heads(num_exits=1, kind="mlp", hidden_size=7)
    assert count(mlp) == 2 * 16 + (16 * 7 + 7) + (7 * VOCAB + VOCAB)
    assert mlp.macs(5) == 5 * (16 * 7 + 7 * VOCAB)


def test_log_probs_are_float32_under_autocast():
    heads = make_heads()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_probs = heads.head(0, torch.randn(1, 4, D_MODEL))
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(1, 4))


def test_dropout_only_in_training():
    heads = make_heads(dropout=0.5)
    state = torch.randn(1, 4, D_MODEL)
    assert torch.equal(heads.head(0, state), heads.head(0, state))
    heads.train()
    assert not torch.equal(heads.head(0, state), heads.head(0, state))


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="'conv' is not one of linear, norm_linear, mlp"):
        make_heads(kind="conv")
    with pytest.raises(ValueError, match="num_exits=0"):
        make_heads(num_exits=0)
    with pytest.raises(ValueError, match="got 2 states for 3 exit heads"):
        make_heads()([torch.randn(1, 4, D_MODEL)] * 2)
