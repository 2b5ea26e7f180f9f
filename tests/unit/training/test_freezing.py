# SPDX-License-Identifier: Apache-2.0
"""Frozen parts get no gradient and no dropout, and are unfrozen by the optimizer step."""

import pytest
import torch
from unit.models import FAMILIES, make_batch, make_encoder

from speechbrain_ee.lobes import ConformerExitEncoder
from speechbrain_ee.training.freezing import Freezing, frozen_layers, frozen_parameters


def part_of(depth):
    """The yaml's word for a number of frozen layers."""
    return {None: "nothing", -1: "feature_extractor", 0: "front_end"}.get(depth, depth)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_all_that_is_not_frozen_and_nothing_else(family):
    encoder = make_encoder(family).train()
    trainable = {name for name, one in encoder.named_parameters() if one.requires_grad}
    depths = (None, *([] if encoder.feature_extractor is None else [-1]), 0, 2, 4)
    freezing = Freezing(encoder=encoder, unfreeze=[[step, part_of(depth)] for step, depth in enumerate(depths, 1)])
    for step, depth in enumerate(depths, 1):
        assert freezing(step) == depth
        encoder.zero_grad()
        states, _ = encoder(*make_batch(family, [20, 30]))
        if depth == 4:
            assert not any(state.requires_grad for state in states)
        else:
            sum(state.square().sum() for state in states).backward()
        reached = {name for name, one in encoder.named_parameters() if one.grad is not None}
        frozen = {id(one) for one in frozen_parameters(encoder, depth)}
        assert reached == {
            name for name, one in encoder.named_parameters() if name in trainable and id(one) not in frozen
        }
        if depth is not None and depth >= 0:
            layers = {int(name.split(".layers.")[1].split(".")[0]) + 1 for name in reached if ".layers." in name}
            assert layers == set(range(depth + 1, 5))


@pytest.mark.parametrize("depth", [-1, 0, 2])
def test_no_graph_is_built_below_the_first_trained_layer(depth):
    encoder = make_encoder("wav2vec2").train()
    Freezing(encoder=encoder, freeze=part_of(depth))(0)
    graphs = []
    for layer in encoder.layers:
        layer.register_forward_pre_hook(lambda _, args: graphs.append(args[0].requires_grad))
    encoder(*make_batch("wav2vec2", [20, 30]))
    assert graphs == [number > max(depth, 0) or depth < 0 for number in range(4)]


def test_what_is_never_freed_asks_for_no_gradient_and_what_is_freed_later_does():
    still, later = make_encoder("wav2vec2"), make_encoder("wav2vec2")
    Freezing(encoder=still, freeze="feature_extractor")
    freezing = Freezing(encoder=later, freeze="feature_extractor", unfreeze=[[5, "nothing"]])
    asked = {name for name, one in still.named_parameters() if not one.requires_grad}
    assert asked and all("feature_extractor" in name for name in asked)
    assert all(one.requires_grad for one in later.parameters()), "DDP wraps the model in this state"
    freezing(0)
    assert asked == {name for name, one in later.named_parameters() if not one.requires_grad}
    freezing(5)
    assert all(one.requires_grad for one in later.parameters())


def test_frozen_parts_have_no_dropout():
    encoder = ConformerExitEncoder(
        n_mels=20, num_layers=3, exit_layers=[1, 3], d_model=16, nhead=2, d_ffn=24, dropout=0.5
    )
    freezing = Freezing(encoder=encoder, freeze=1, unfreeze=[[1, "nothing"]])
    for _ in range(2):  # a second epoch begins with train(), too
        encoder.train()
        freezing(0)
        feats, lengths = torch.randn(1, 40, 20), torch.tensor([40])
        (first, last), (again, other) = encoder(feats, lengths)[0], encoder(feats, lengths)[0]
        assert torch.equal(first, again) and not torch.equal(last, other)
        assert encoder.training and not encoder.frontend.training
    freezing(1)
    assert encoder.frontend.training and encoder.layers[0].training


def test_states_are_the_same_frozen_or_not():
    encoder = make_encoder("whisper")
    batch = make_batch("whisper", [20, 30])
    expected, _ = encoder(*batch)
    Freezing(encoder=encoder, freeze=2)(0)
    states, _ = encoder(*batch)
    assert all(torch.equal(one, other) for one, other in zip(states, expected, strict=True))


@pytest.mark.parametrize("freeze", ["all", 0, 5, True, None, 1.5, "feature_extractor"])
def test_unknown_settings_are_refused(freeze):
    with pytest.raises(ValueError, match="give nothing, front_end, encoder, or a number of layers from 1 to 4"):
        frozen_layers(freeze, make_encoder("transformer"))


def test_a_step_that_training_does_not_reach_is_refused():
    freezing = Freezing(encoder=make_encoder("transformer"), freeze=1, unfreeze=[[50, "nothing"]])
    freezing.check_steps(51)
    with pytest.raises(ValueError, match="unfreeze names step 50, but training has only 50 steps"):
        freezing.check_steps(50)


def test_stages_follow_the_step():
    encoder = make_encoder("transformer")
    freezing = Freezing(encoder=encoder, freeze="encoder", unfreeze=[[5, 3], [9, "front_end"], [12, "nothing"]])
    assert freezing.depth == 4
    assert [freezing(step) for step in (0, 4, 5, 8, 9, 12, 99)] == [4, 4, 3, 3, 0, None, None]
    assert freezing(6) == 3, "a function of the step alone"
    assert freezing.frees_later and not freezing.always_all
    assert Freezing(encoder=encoder, freeze="encoder").always_all
    assert not Freezing(encoder=encoder, freeze=2).frees_later


@pytest.mark.parametrize("unfreeze", [[[5, 3], [5, 2]], [[0, 3]], [[-1, 3]]])
def test_steps_that_do_not_rise_are_refused(unfreeze):
    with pytest.raises(ValueError, match="give increasing steps, from 1 on"):
        Freezing(encoder=make_encoder("transformer"), unfreeze=unfreeze)


@pytest.mark.parametrize("unfreeze", [[5], [[5]], [["a", 3]], [[1.5, 3]], 500, None])
def test_pairs_are_asked_for(unfreeze):
    with pytest.raises(ValueError, match="give pairs"):
        Freezing(encoder=make_encoder("transformer"), unfreeze=unfreeze)
