# SPDX-License-Identifier: Apache-2.0
"""What is frozen gets no gradient, no dropout and no change of mode, and is freed by the step."""

import pytest
import torch
from unit.models import FAMILIES, make_batch, make_encoder

from speechbrain_ee.freezing import Freezing, frozen_layers
from speechbrain_ee.lobes import ConformerExitEncoder


def with_gradient(encoder, family):
    """Layers, 0 for what is outside them, whose parameters a step reaches."""
    encoder.zero_grad()
    states, _ = encoder(*make_batch(family, [20, 30]))
    if any(state.requires_grad for state in states):
        sum(state.square().sum() for state in states).backward()
    reached = set()
    numbers = {
        id(parameter): number for number, layer in enumerate(encoder.layers, 1) for parameter in layer.parameters()
    }
    for parameter in encoder.parameters():
        if parameter.grad is not None:
            reached.add(numbers.get(id(parameter), 0))
    return reached


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_what_is_not_frozen(family):
    encoder = make_encoder(family).train()
    for depth in (None, 0, 2, 4):
        encoder.freeze(depth)
        layers = set(range(1 + (depth or 0), 5))
        reached = with_gradient(encoder, family)
        assert reached - {0} == layers
        if depth is None:
            assert 0 in reached
        if depth == 4:
            assert reached == set(), "the final norm too"


def test_frozen_parts_have_no_dropout_whatever_train_is_told():
    encoder = ConformerExitEncoder(
        n_mels=20, num_layers=3, exit_layers=[1, 3], d_model=16, nhead=2, d_ffn=24, dropout=0.5
    )
    encoder.freeze(1)
    encoder.train()
    feats, lengths = torch.randn(1, 40, 20), torch.tensor([40])
    (first, last), (again, other) = encoder(feats, lengths)[0], encoder(feats, lengths)[0]
    assert torch.equal(first, again) and not torch.equal(last, other)
    assert encoder.training and not encoder.frontend.training
    encoder.freeze(None)
    assert encoder.frontend.training and encoder.layers[0].training


def test_states_are_the_same_frozen_or_not():
    encoder = make_encoder("whisper")
    batch = make_batch("whisper", [20, 30])
    expected, _ = encoder(*batch)
    encoder.freeze(2)
    states, _ = encoder(*batch)
    assert all(torch.equal(one, other) for one, other in zip(states, expected, strict=True))


@pytest.mark.parametrize("depth", [-1, 5])
def test_only_layers_that_are_there(depth):
    with pytest.raises(ValueError, match=f"cannot freeze {depth} layers: give 0 to 4"):
        make_encoder("transformer").freeze(depth)


@pytest.mark.parametrize("freeze", ["all", 0, 5, True, None, 1.5])
def test_unknown_settings_are_refused(freeze):
    with pytest.raises(ValueError, match="give nothing, front_end, encoder, or a number of layers from 1 to 4"):
        frozen_layers(freeze, 4)


def test_stages_follow_the_step():
    encoder = make_encoder("transformer")
    freezing = Freezing(encoder=encoder, freeze="encoder", unfreeze=[[5, 3], [9, "front_end"], [12, "nothing"]])
    assert encoder.frozen_layers == 4
    assert [freezing(step) for step in (0, 4, 5, 8, 9, 12, 99)] == [4, 4, 3, 3, 0, None, None]
    assert freezing(6) == encoder.frozen_layers == 3, "a function of the step alone"
    assert freezing.ever_freezes and not freezing.always_all
    assert Freezing(encoder=encoder, freeze="encoder").always_all
    assert not Freezing(encoder=encoder).ever_freezes


@pytest.mark.parametrize("unfreeze", [[[5, 3], [5, 2]], [[0, 3]], [[-1, 3]]])
def test_steps_that_do_not_rise_are_refused(unfreeze):
    with pytest.raises(ValueError, match="they must rise from 1 on"):
        Freezing(encoder=make_encoder("transformer"), unfreeze=unfreeze)


@pytest.mark.parametrize("unfreeze", [[5], [[5]], [["a", 3]], [[1.5, 3]]])
def test_pairs_are_asked_for(unfreeze):
    with pytest.raises(ValueError, match="give pairs"):
        Freezing(encoder=make_encoder("transformer"), unfreeze=unfreeze)
