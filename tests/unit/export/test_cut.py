# SPDX-License-Identifier: Apache-2.0
"""A cut model is the first layers of the whole one, and its file is smaller by the rest."""

import pytest
import torch
from unit.models import D_MODEL, FAMILIES, make_batch, make_encoder, make_features, make_heads_of, make_joint_heads

from speechbrain_ee.export.cut import keep_exits
from speechbrain_ee.lobes.cost import count_parameters


def whole(family):
    encoder = make_encoder(family)
    modules = {"features": make_features(family), "encoder": encoder, "heads": make_heads_of(family)}
    return torch.nn.ModuleDict(modules)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("exits", [[2], [1, 4], [1, 2], [1, 2, 4]])
def test_exits_of_the_cut_model_are_those_of_the_whole_one(family, exits):
    modules = whole(family)
    cut = keep_exits(modules, exits)
    batch = make_batch(family, [50, 31])
    expected = modules["heads"](*modules["encoder"](*batch))
    found = cut["heads"](*cut["encoder"](*batch))
    kept = [expected[[1, 2, 4].index(layer)] for layer in exits]
    for one, other in zip(kept, found, strict=True):
        assert torch.equal(one.log_probs, other.log_probs)
        if one.attention_decoder is not None:
            states = zip(one.attention_decoder.parameters(), other.attention_decoder.parameters(), strict=True)
            assert all(torch.equal(*pair) for pair in states)
    dropped = sum(count_parameters(layer) for layer in list(modules["encoder"].layers)[exits[-1] :])
    assert count_parameters(cut["encoder"]) == count_parameters(modules["encoder"]) - dropped


@torch.no_grad()
@pytest.mark.parametrize("decoders", ["shared", "per_exit"])
@pytest.mark.parametrize(("exits", "expected"), [([1, 2], [False, True]), ([1], [False]), ([2, 4], [True, True])])
def test_a_cut_model_keeps_the_decoders_of_its_exits(decoders, exits, expected):
    modules = whole("conformer")
    modules["heads"] = make_joint_heads(decoders=decoders, decoders_at=[2, 4])
    cut = keep_exits(modules, exits)["heads"]
    assert cut.has_decoders == any(expected)
    state, lengths = torch.randn(1, 9, D_MODEL), torch.tensor([9])
    for index, (layer, has_decoder) in enumerate(zip(exits, expected, strict=True)):
        before, after = modules["heads"].head([1, 2, 4].index(layer), state, lengths), cut.head(index, state, lengths)
        assert torch.equal(after.log_probs, before.log_probs)
        assert (after.attention_decoder is not None) == (before.attention_decoder is not None) == has_decoder
        if has_decoder:
            predicted = [one.start_attention().read([[1, 5]]).log_probs for one in (before, after)]
            assert torch.equal(*predicted)


@pytest.mark.parametrize("exits", [[], [3], [2, 1], [2, 2], [4, 6]])
def test_other_layers_are_refused(exits):
    with pytest.raises(ValueError, match=r"choose from \[1, 2, 4\]"):
        keep_exits(whole("conformer"), exits)
