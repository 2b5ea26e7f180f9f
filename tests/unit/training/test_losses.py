# SPDX-License-Identifier: Apache-2.0
"""Exit weights and the CTC loss over exits."""

import math

import pytest
import torch
from speechbrain.nnet.losses import ctc_loss

from speechbrain_ee.lobes import ExitOutput
from speechbrain_ee.training.losses import ExitCTCLoss, ExitJointLoss, exit_weights


def one_frame_each(*frames):
    return torch.tensor([frames]).log()


# Blank, a, b. The paths of "a" over two frames: a a, a -, - a.
TWO_FRAMES = one_frame_each((0.5, 0.3, 0.2), (0.1, 0.6, 0.3))
PROBABILITY_A = 0.3 * 0.6 + 0.3 * 0.1 + 0.5 * 0.6
A, ONE = torch.tensor([[1]]), torch.tensor([1])


def ctc(log_probs, lengths, tokens=A, token_lengths=ONE, **arguments):
    loss = ExitCTCLoss(exit_layers=[1], **arguments)
    return loss([ExitOutput(log_probs, torch.tensor(lengths))], tokens, token_lengths)[0].item()


def test_two_frames_by_hand():
    assert ctc(TWO_FRAMES, [2]) == pytest.approx(-math.log(PROBABILITY_A))


def test_lengths_are_the_utterance_not_the_padded_batch():
    assert ctc(TWO_FRAMES, [1]) == pytest.approx(-math.log(0.3))  # one frame: only the path a
    padded = torch.cat([TWO_FRAMES, torch.full((1, 5, 3), -0.01)], dim=1)
    assert ctc(padded, [2]) == pytest.approx(-math.log(PROBABILITY_A))


def test_no_bos_or_eos_is_a_label():
    # two tokens over two frames leave one path, a b; a label more would not fit and be infinite
    tokens, token_lengths = torch.tensor([[1, 2, 0]]), torch.tensor([2])
    loss = ctc(TWO_FRAMES, [2], tokens, token_lengths, reduction="sum")
    assert loss == pytest.approx(-math.log(0.3 * 0.3))
    assert ctc(TWO_FRAMES, [2], tokens, token_lengths) == pytest.approx(-math.log(0.3 * 0.3) / 2)  # per token


def test_a_text_without_tokens_is_all_blanks():
    empty = torch.zeros(1, 0, dtype=torch.long)
    assert ctc(TWO_FRAMES, [2], empty, torch.tensor([0])) == pytest.approx(-math.log(0.5 * 0.1))


def test_batch_reductions_by_hand():
    batch = torch.cat([TWO_FRAMES, TWO_FRAMES.flip(1)])
    tokens, token_lengths = torch.tensor([[1, 0], [1, 2]]), torch.tensor([1, 2])
    first, second = -math.log(PROBABILITY_A), -math.log(0.6 * 0.2)
    expected = {"sum": first + second, "batchmean": (first + second) / 2, "mean": (first + second / 2) / 2}
    for reduction, value in expected.items():
        assert ctc(batch, [2, 2], tokens, token_lengths, reduction=reduction) == pytest.approx(value)


@pytest.mark.parametrize("frames", [41, 2999])
def test_the_loss_counts_every_frame_of_every_length(frames):
    # without a text each frame costs the 1.0 of its blank; what lies behind the utterance would cost 100
    lengths = torch.tensor([1, 2, frames // 3, frames // 2, frames - 1, frames])
    log_probs = torch.full((6, frames, 2), -1.0)
    log_probs[torch.arange(frames) >= lengths[:, None]] = -100.0
    for row, length in enumerate(lengths.tolist()):
        one = ExitOutput(log_probs[row : row + 1], lengths[row : row + 1])
        empty = torch.zeros(1, 0, dtype=torch.long)
        total, _ = ExitCTCLoss(exit_layers=[1])([one], empty, torch.tensor([0]))
        assert total.item() == pytest.approx(length, rel=1e-6)


def test_a_text_of_more_tokens_than_frames_has_a_loss_of_0_and_gives_no_gradient():
    # "a a" wants three frames, a - a: the first utterance has two, the second its "a" in both
    log_probs = torch.cat([TWO_FRAMES, TWO_FRAMES]).requires_grad_()
    tokens, token_lengths = torch.tensor([[1, 1], [1, 0]]), torch.tensor([2, 1])
    loss = ExitCTCLoss(exit_layers=[1])([ExitOutput(log_probs, torch.tensor([2, 2]))], tokens, token_lengths)[0]
    assert loss.item() == pytest.approx(-math.log(PROBABILITY_A) / 2)  # the mean of 0 and that
    loss.backward()
    assert torch.equal(log_probs.grad[0], torch.zeros(2, 3))
    assert log_probs.grad[1].abs().sum() > 0


def test_the_loss_and_its_gradient_are_those_of_speechbrain():
    torch.manual_seed(0)
    logits = torch.randn(5, 30, 7, requires_grad=True)
    lengths, token_lengths = torch.tensor([30, 29, 17, 8, 5]), torch.tensor([9, 4, 6, 1, 0])
    tokens = torch.randint(1, 7, (5, 9))
    for reduction in ("mean", "batchmean", "sum"):
        ours, _ = ExitCTCLoss(exit_layers=[1], reduction=reduction)(
            [ExitOutput(logits.log_softmax(-1), lengths)], tokens, token_lengths
        )
        relative = (lengths.double() / 30, token_lengths.double() / 9)
        theirs = ctc_loss(logits.log_softmax(-1), tokens, *relative, 0, reduction)
        torch.testing.assert_close(ours, theirs)
        gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
        torch.testing.assert_close(*gradients)


def test_the_blank_of_another_tokenizer_may_lie_elsewhere():
    last = TWO_FRAMES[..., [1, 2, 0]]  # a, b, blank
    assert ctc(last, [2], torch.tensor([[0]]), blank_index=2) == pytest.approx(-math.log(PROBABILITY_A))


@pytest.mark.parametrize(
    ("tokens", "blank_index", "message"),
    [
        ([[1, 2, 0]], 1, "a target contains token 1, the blank: give the blank_index of the tokenizer"),
        ([[1, 2, 0]], 3, r"blank_index 3 is outside the vocabulary: choose 0\.\.2"),
        ([[1, 2, 0]], -1, "blank_index -1 is outside the vocabulary"),
    ],
)
def test_a_blank_that_is_none_is_refused(tokens, blank_index, message):
    with pytest.raises(ValueError, match=message):
        ctc(TWO_FRAMES.clone().requires_grad_(), [2], torch.tensor(tokens), torch.tensor([2]), blank_index=blank_index)


def test_unknown_characters_in_a_text_of_the_validation_set_are_no_error():
    """Their token is the blank of this package's tokenizers; nothing is trained with it."""
    assert math.isfinite(ctc(TWO_FRAMES, [2], torch.tensor([[0, 1]])))


@pytest.mark.parametrize("reduction", ["none", "batch"])
def test_an_unknown_reduction_is_refused(reduction):
    with pytest.raises(ValueError, match=f"reduction is '{reduction}': choose from mean, batchmean, sum"):
        ExitCTCLoss(exit_layers=[1], reduction=reduction)


def three_exits(weights):
    log_probs = [TWO_FRAMES, TWO_FRAMES.flip(1), TWO_FRAMES[:, [0, 0]]]
    loss = ExitCTCLoss(exit_layers=[2, 4, 6], weights=weights)
    return loss([ExitOutput(one, torch.tensor([2])) for one in log_probs], A, ONE)


def test_uniform_is_the_plain_sum():
    total, per_exit = three_exits("uniform")
    alone = [PROBABILITY_A, PROBABILITY_A, 0.3 * 0.3 + 2 * 0.3 * 0.5]
    assert [one.item() for one in per_exit] == pytest.approx([-math.log(p) for p in alone])
    assert total.item() == pytest.approx(-sum(math.log(p) for p in alone))


def test_weights_multiply_and_zero_is_not_computed():
    plain = three_exits("uniform")[1]
    total, per_exit = three_exits([0.5, 0, 2])
    assert per_exit[1] is None
    assert total.item() == pytest.approx((0.5 * plain[0] + 2 * plain[2]).item())


def test_weights_by_name():
    assert exit_weights("uniform", [2, 4, 6]) == [1.0, 1.0, 1.0]
    assert exit_weights("depth", [2, 4, 6]) == [0.5, 1.0, 1.5]
    assert sum(exit_weights("depth", [1, 5, 12])) == pytest.approx(3)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("linear", "'linear': give uniform, depth, or a list of 3 numbers"),
        ([1, 1], "got 2 exit weights for 3 exits"),
        ([1, -1, 1], ">= 0"),
        ([0, 0, 0], "at least one of them above 0"),
        ([1, float("nan"), 1], "finite"),
        ([1, float("inf"), 1], "finite"),
    ],
)
def test_wrong_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        exit_weights(weights, [2, 4, 6])


def test_too_few_exits_are_refused():
    with pytest.raises(ValueError, match="argument"):
        ExitCTCLoss(exit_layers=[1, 2])([ExitOutput(TWO_FRAMES, torch.tensor([2]))], A, ONE)


# Over no token and after "a": EOS has 0.2, then 0.5.
TWO_TOKENS = one_frame_each((0.1, 0.3, 0.2, 0.4), (0.1, 0.2, 0.5, 0.2))


def joint(attention=TWO_TOKENS, attention_weight=1.0, decoder=True, tokens=A, token_lengths=ONE, **arguments):
    output = ExitOutput(
        TWO_FRAMES,
        torch.tensor([2]),
        attention_decoder=torch.nn.Identity() if decoder else None,
        attention_log_probs=attention,
        attention_weight=attention_weight,
    )
    loss = ExitJointLoss(exit_layers=[1], **arguments)
    return loss([output], tokens, token_lengths)[0].item()


def test_joint_loss_by_hand():
    attention = -(math.log(0.3) + math.log(0.5)) / 2  # "a", then EOS
    assert joint(ctc_weight=0.0) == pytest.approx(attention)
    assert joint(ctc_weight=0.3) == pytest.approx(0.3 * -math.log(PROBABILITY_A) + 0.7 * attention)
    assert joint(ctc_weight=0.0, reduction="batchmean") == pytest.approx(2 * attention)
    smoothed = 0.9 * attention - 0.1 * sum(math.log(p) for p in (0.1, 0.3, 0.2, 0.4, 0.1, 0.2, 0.5, 0.2)) / 4 / 2
    assert joint(ctc_weight=0.0, label_smoothing=0.1) == pytest.approx(smoothed)


def test_the_attention_loss_ends_at_eos_whatever_is_padded():
    padded = torch.cat([TWO_TOKENS, torch.full((1, 3, 4), -9.0)], dim=1)
    tokens = torch.tensor([[1, 3, 3, 3]])
    assert joint(padded, tokens=tokens, ctc_weight=0.0) == pytest.approx(joint(ctc_weight=0.0))


def test_an_exit_without_a_decoder_has_its_ctc_loss_and_one_not_drawn_the_share_of_it():
    plain = -math.log(PROBABILITY_A)
    assert joint(None, decoder=False) == pytest.approx(plain)
    assert joint(None) == pytest.approx(0.3 * plain)
    more = joint(ctc_weight=0.0, attention_weight=3.0)
    assert more == pytest.approx(3 * joint(ctc_weight=0.0))


@pytest.mark.parametrize("name", ["ctc_weight", "label_smoothing"])
def test_shares_are_between_0_and_1(name):
    with pytest.raises(ValueError, match=f"{name}=1.5: give a number from 0 to 1"):
        ExitJointLoss(exit_layers=[1], **{name: 1.5})


def distilled(student, teacher, length, **arguments):
    loss = ExitCTCLoss(exit_layers=[1, 2], distillation=2.0, **arguments)
    outputs = [ExitOutput(one, torch.tensor([length])) for one in (student, teacher)]
    return loss(outputs, A, ONE)


def test_distillation_by_hand():
    student, teacher = TWO_FRAMES.clone().requires_grad_(), TWO_FRAMES.flip(1).clone().requires_grad_()
    total, (first, last) = distilled(student, teacher, 2, weights=[1, 0])
    probabilities = [(0.1, 0.6, 0.3), (0.5, 0.3, 0.2)], [(0.5, 0.3, 0.2), (0.1, 0.6, 0.3)]
    divergence = sum(
        p * math.log(p / q)
        for frame, other in zip(*probabilities, strict=True)
        for p, q in zip(frame, other, strict=True)
    )
    assert first.item() == pytest.approx(-math.log(PROBABILITY_A) + 2 * divergence)
    assert last is None
    total.backward()
    assert teacher.grad is None, "the last exit does not learn from the others"


def test_distillation_ends_with_the_utterance_and_leaves_the_last_exit_alone():
    padded = torch.cat([TWO_FRAMES, one_frame_each((0.9, 0.05, 0.05))], dim=1)
    other = torch.cat([TWO_FRAMES, one_frame_each((0.05, 0.05, 0.9))], dim=1)
    _, (first, last) = distilled(padded, other, 2)
    assert first.item() == pytest.approx(last.item()) == pytest.approx(-math.log(PROBABILITY_A))


def test_negative_distillation_is_refused():
    with pytest.raises(ValueError, match="distillation=-1: give a number >= 0"):
        ExitCTCLoss(exit_layers=[1], distillation=-1)
