# SPDX-License-Identifier: Apache-2.0
"""The Brain's optimizer step; training as a whole is in tests/recipes/test_train.py."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from speechbrain import Stage
from speechbrain.dataio.batch import PaddedBatch
from torch import nn

from speechbrain_ee.corpora.sampler import split_step
from speechbrain_ee.training.brain import ExitBrain
from speechbrain_ee.training.losses import ExitCTCLoss


def make_brain(gradient, max_grad_norm):
    """Build a Brain with one weight of 1.0 that has a gradient, about to take a step of rate 1."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    constant = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: 1.0)
    hparams = {"epoch_counter": SimpleNamespace(current=3), "lr_scheduler": constant, "encoder_lr_factor": 1.0}
    run_opts = {"device": "cpu", "max_grad_norm": max_grad_norm}
    brain = ExitBrain({"module": module}, lambda parameters: torch.optim.SGD(parameters, lr=1.0), hparams, run_opts)
    brain.init_optimizers()
    module.weight.grad = torch.tensor([[gradient]])
    brain.ids_of_step = ["a", "b"]
    return brain, module.weight


def test_relative_lengths_of_another_loader_are_refused():
    brain, _ = make_brain(1.0, 5.0)
    batch = PaddedBatch(
        [{"sig": torch.ones(2), "tokens": torch.ones(1)}, {"sig": torch.ones(1), "tokens": torch.ones(1)}]
    )
    with pytest.raises(ValueError, match="lengths must be 2 integer numbers"):
        brain.compute_forward(batch, Stage.VALID)


@pytest.mark.parametrize(("max_grad_norm", "weight_after"), [(5.0, -4.0), (100.0, -9.0), (-1.0, -9.0), (0.0, -9.0)])
def test_gradients_are_clipped_and_a_limit_of_zero_or_less_is_none(max_grad_norm, weight_after):
    brain, weight = make_brain(10.0, max_grad_norm)
    brain.optimizers_step()
    assert weight.item() == pytest.approx(weight_after, abs=1e-4)
    assert brain.optimizer_step == 1 and brain.ids_of_step == []


@pytest.mark.parametrize("gradient", [float("inf"), float("nan")])
def test_a_gradient_that_is_no_number_stops_before_the_step(gradient):
    brain, weight = make_brain(gradient, 5.0)
    with pytest.raises(ValueError, match="^the gradient is (inf|nan) in epoch 3, step 0, utterances a, b: lower --lr"):
        brain.optimizers_step()
    assert weight.item() == 1.0


def test_under_fp16_an_overflow_skips_the_step_and_halves_the_scale():
    brain, weight = make_brain(float("inf"), 5.0)
    brain.scaler = torch.GradScaler("cpu", init_scale=8.0)
    brain.scaler.scale(torch.zeros(()))  # makes its scale, as the loss does
    brain.optimizers_step()
    assert weight.item() == 1.0 and brain.scaler.get_scale() == 4.0
    weight.grad = torch.tensor([[16.0]])  # scaled by 4: a gradient of 4
    brain.optimizers_step()
    assert weight.item() == pytest.approx(-3.0)


class SquareLoss(ExitCTCLoss):
    """The mean or sum of the squares of the predictions, in place of CTC."""

    def __call__(self, outputs, tokens, token_lengths):
        return self._reduce(outputs.square(), token_lengths), []


class SquareBrain(ExitBrain):
    """Predicts ``weight * x`` for each utterance of a batch, so that every gradient can be worked out by hand."""

    def compute_forward(self, batch, stage):
        return self.modules.module(batch.x.unsqueeze(1)).squeeze(1)


def weight_after_one_step(inputs, num_parts, reduction):
    """Train the weight 1 on a step of utterances that is split into parts, and return the weight after it."""
    brain, weight = make_brain(0.0, -1.0)
    weight.grad = None
    brain.__class__ = SquareBrain
    brain.grad_accumulation_factor = num_parts
    brain.hparams.loss = SquareLoss(exit_layers=[1], reduction=reduction)
    brain.hparams.freezing = lambda step: None
    parts = split_step(range(len(inputs)), num_parts)
    brain.train_loader = SimpleNamespace(share=lambda number: parts[number - 1].share, num_parts=num_parts)
    losses = []
    for brain.step, part in enumerate(parts, start=1):
        x = torch.tensor([inputs[index] for index in part.indices])
        tokens = torch.ones(len(x), 1), torch.ones(len(x))
        losses.append(brain.fit_batch(SimpleNamespace(x=x, tokens=tokens, id=[])).item())
    assert brain.optimizer_step == 1
    return weight.item(), sum(losses) / len(losses)


@pytest.mark.parametrize("num_parts", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("reduction", "gradient", "loss"),
    # The loss of an utterance is (weight * x) ** 2, its gradient at the weight 1 is 2 * x ** 2: 2, 8, 18 and 32.
    [("batchmean", (2 + 8 + 18 + 32) / 4, (1 + 4 + 9 + 16) / 4), ("sum", 2 + 8 + 18 + 32, 1 + 4 + 9 + 16)],
)
def test_parts_of_unequal_sizes_give_the_gradient_of_all_utterances_together(num_parts, reduction, gradient, loss):
    """With three parts, utterances 1 and 4 are in the first; with five, the last part repeats utterance 1 unweighted.

    The plain mean of the three parts' means would give (17 + 8 + 18) / 3 = 14.3 instead of 15.
    """
    weight, mean_loss = weight_after_one_step([1.0, 2.0, 3.0, 4.0], num_parts, reduction)
    assert weight == pytest.approx(1 - gradient)
    assert mean_loss == pytest.approx(loss)
