# SPDX-License-Identifier: Apache-2.0
"""Which exits have a decoder, and which decoders are trained on a batch."""

import pytest
import torch
from unit.models import D_MODEL, VOCAB, make_joint_heads

TOKENS, TOKEN_LENGTHS = torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([3, 2])
LENGTHS = torch.tensor([7, 5])


def run(heads):
    torch.manual_seed(0)
    return heads([torch.randn(2, 7, D_MODEL) for _ in range(3)], LENGTHS, TOKENS, TOKEN_LENGTHS)


def exits_with_attention(heads):
    return [index for index, output in enumerate(run(heads)) if output.attention_log_probs is not None]


def test_a_decoder_is_told_bos_and_the_targets():
    heads = make_joint_heads()
    outputs = run(heads)
    bos_first = torch.tensor([[1, 5, 6, 7], [1, 8, 9, 0]])
    for index, output in enumerate(outputs):
        expected = heads.decoders[index](bos_first, output.state, LENGTHS)
        assert torch.equal(output.attention_log_probs, expected)
        assert output.attention_decoder is heads.decoders[index]


def test_shared_is_one_decoder_and_per_exit_one_each():
    assert [len(make_joint_heads(decoders=kind).decoders) for kind in ("shared", "per_exit")] == [1, 3]
    shared = make_joint_heads(decoders="shared")
    assert len({id(shared.decoder(index)) for index in range(3)}) == 1


def test_only_chosen_exits_have_a_decoder():
    heads = make_joint_heads(decoders_at=[4])
    assert exits_with_attention(heads) == [2]
    assert [heads.decoder(index) is None for index in range(3)] == [True, True, False]
    assert len(heads.modules_of(0)) == 1 and len(heads.modules_of(2)) == 2


def test_no_targets_no_decoder_is_run():
    heads = make_joint_heads()
    calls = []
    heads.decoders[0].register_forward_hook(lambda *_: calls.append(1))
    outputs = heads([torch.randn(1, 4, D_MODEL)] * 3, torch.tensor([4]))
    assert not calls and all(output.attention_log_probs is None for output in outputs)


def test_drawn_exits_change_with_the_batch_and_are_the_same_on_every_rank_and_after_resuming():
    first, second = (make_joint_heads(decoders_per_batch=1).train() for _ in range(2))
    torch.manual_seed(99)  # ranks differ in torch's global generator
    drawn = [exits_with_attention(first) for _ in range(12)]
    assert all(len(one) == 1 for one in drawn) and {one[0] for one in drawn} == {0, 1, 2}
    assert [exits_with_attention(second) for _ in range(5)] == drawn[:5]
    resumed = make_joint_heads(decoders_per_batch=1).train()
    resumed.load_state_dict(second.state_dict())
    assert [exits_with_attention(resumed) for _ in range(7)] == drawn[5:]
    assert exits_with_attention(first.eval()) == [0, 1, 2]


def test_a_drawn_decoder_stands_for_the_others():
    outputs = run(make_joint_heads(decoders_per_batch=2).train())
    assert sorted(output.attention_weight for output in outputs) == [1.0, 1.5, 1.5]


def test_more_draws_than_decoders_is_all_of_them():  # as for a single-exit twin with the options of its model
    heads = make_joint_heads(decoders_at=[4], decoders_per_batch=2).train()
    assert exits_with_attention(heads) == [2] and not heads.may_skip_parameters
    assert run(heads)[2].attention_weight == 1.0


def test_what_ddp_must_know():
    assert make_joint_heads(decoders_per_batch=1).may_skip_parameters
    assert not make_joint_heads(decoders_per_batch=1, decoders="shared").may_skip_parameters
    assert not make_joint_heads().may_skip_parameters


def test_config_builds_the_same_again():
    heads = make_joint_heads(decoders_at=[2, 4], decoders_per_batch=1, kind="mlp", hidden_size=5)
    assert type(heads)(**heads.config).state_dict().keys() == heads.state_dict().keys()
    assert heads.config["vocab_size"] == VOCAB


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoders": "some"}, "'some' is not one of shared, per_exit"),
        ({"decoders_at": [3]}, r"decoders_at \[3\]: give some of the exit layers \[1, 2, 4\]"),
        ({"decoders_at": []}, "give some of the exit layers"),
        ({"decoders_per_batch": 0}, "decoders_per_batch=0: give at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_joint_heads(**arguments)
