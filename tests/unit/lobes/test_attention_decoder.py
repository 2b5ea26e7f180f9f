# SPDX-License-Identifier: Apache-2.0
"""The attention decoder: training and decoding give the same results, also with padding, selection and cutting."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from unit.models import D_MODEL, VOCAB, make_joint_heads

from speechbrain_ee.lobes import AttentionDecoder

# float32 sums of some dozen terms of size 1, in another order
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
LENGTHS = torch.tensor([20, 13, 7])


@pytest.fixture
def decoder():
    return make_joint_heads().decoders[0]


def batch(num_tokens=6):
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(3, 20, D_MODEL, generator=generator)
    tokens = torch.randint(3, VOCAB, (3, num_tokens), generator=generator)
    return states, torch.cat([torch.ones(3, 1, dtype=torch.long), tokens[:, 1:]], dim=1)


@torch.no_grad()
@pytest.mark.parametrize("steps", [[1] * 6, [2, 1, 3], [6]])
def test_token_by_token_is_the_stock_decoder_over_all_of_them(decoder, steps):
    states, tokens = batch()
    expected = decoder(tokens, states, LENGTHS)
    state, found = decoder.start(states, LENGTHS), []
    for part in tokens.split(steps, dim=1):
        state, log_probs = decoder.advance(state, part)
        found.append(log_probs)
    torch.testing.assert_close(torch.cat(found, dim=1), expected, **TOLERANCE)
    assert state.num_tokens == 6
    torch.testing.assert_close(expected.exp().sum(-1), torch.ones(3, 6))


@torch.no_grad()
def test_padding_and_what_comes_later_do_not_matter(decoder):
    states, tokens = batch()
    together = decoder(tokens, states, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = decoder(tokens[row : row + 1, :4], states[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(together[row : row + 1, :4], alone, **TOLERANCE)


@torch.no_grad()
def test_selected_and_cut_states_go_on_as_if_nothing_else_had_been(decoder):
    states, tokens = batch()
    expected = decoder(tokens, states, LENGTHS)
    state, _ = decoder.advance(decoder.start(states, LENGTHS), tokens[:, :4])
    rows = torch.tensor([2, 0])
    _, log_probs = decoder.advance(state.select(rows), tokens[rows, 4:])
    torch.testing.assert_close(log_probs, expected[rows, 4:], **TOLERANCE)
    _, log_probs = decoder.advance(state.cut(2), tokens[:, 2:])
    torch.testing.assert_close(log_probs, expected[:, 2:], **TOLERANCE)


@torch.no_grad()
def test_hypotheses_of_one_utterance_share_its_memory(decoder):
    states, tokens = batch()
    expected = decoder(tokens, states[:1].expand(3, -1, -1), LENGTHS[:1].expand(3))
    state = decoder.start(states[:1], LENGTHS[:1]).select(torch.zeros(3, dtype=torch.long))
    assert state.memory[0][0].shape[0] == 1
    state, first = decoder.advance(state, tokens[:, :1])
    _, rest = decoder.advance(state, tokens[:, 1:])
    torch.testing.assert_close(torch.cat([first, rest], dim=1), expected, **TOLERANCE)


@torch.no_grad()
def test_it_listens():
    decoder = make_joint_heads().decoders[0]
    states, tokens = batch()
    assert not torch.allclose(decoder(tokens, states, LENGTHS), decoder(tokens, states.flip(1), LENGTHS), atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("num_tokens", [1, 2, 9])
def test_macs_are_what_torch_counts(decoder, num_tokens):
    states, tokens = batch(num_tokens)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        state = decoder.start(states[:1], LENGTHS[:1])
        for part in tokens[:1].split(1, dim=1):
            state, _ = decoder.advance(state, part)
    assert counter.get_total_flops() / 2 == decoder.cost.start_macs(20) + decoder.cost.text_macs(20, num_tokens)


def test_the_end_of_the_table_of_positions_is_an_error():
    decoder = AttentionDecoder(d_model=8, vocab_size=5, nhead=2, d_ffn=8, num_layers=1, max_length=3).eval()
    state = decoder.start(torch.randn(1, 4, 8), torch.tensor([4]))
    state, _ = decoder.advance(state, torch.ones(1, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="4 tokens are more than max_length=3: cut the text"):
        decoder.advance(state, torch.ones(1, 1, dtype=torch.long))


@pytest.mark.parametrize(
    ("arguments", "message"), [({"nhead": 3}, "not a multiple of nhead=3"), ({"num_layers": 0}, "give at least 1")]
)
def test_sizes_that_make_no_decoder_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AttentionDecoder(**{"d_model": 8, "vocab_size": 5, "nhead": 2, "d_ffn": 8, "num_layers": 1} | arguments)
