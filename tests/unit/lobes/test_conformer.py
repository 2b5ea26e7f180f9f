# SPDX-License-Identifier: Apache-2.0
"""Conformer and Transformer encoders; the laws are in test_laws.py."""

import pytest
import torch
from speechbrain.lobes.models.transformer.Conformer import ConvolutionModule
from unit.models import N_MELS, SIZES, make_encoder

from speechbrain_ee.lobes import ConformerExitEncoder, TransformerExitEncoder
from speechbrain_ee.lobes.conformer import MaskedConvolutionModule


@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_convolution_is_the_stock_one_where_nothing_is_padded(causal):
    stock = ConvolutionModule(8, 5, causal=causal).eval()
    ours = MaskedConvolutionModule.from_stock(stock)
    x = torch.randn(2, 9, 8)
    no_padding = torch.zeros(2, 9, 1, dtype=torch.bool)
    assert torch.equal(ours(x), stock(x))
    assert torch.equal(ours(x, no_padding), stock(x, no_padding))


@torch.no_grad()
def test_convolution_looks_at_no_padding_and_the_stock_one_does():
    stock = ConvolutionModule(8, 5).eval()
    ours = MaskedConvolutionModule.from_stock(stock).eval()
    x = torch.randn(1, 9, 8)
    mask = torch.arange(9).view(1, 9, 1) >= 6
    alone = ours(x[:, :6])
    torch.testing.assert_close(ours(x, mask)[:, :6], alone)
    assert not ours(x, mask)[:, 6:].any()
    difference = (stock(x, mask)[:, :6] - alone).abs().amax(-1)[0]
    # a kernel of 5 reaches two frames back from the padding
    assert difference[:4].max() < 1e-6 < 1e-3 < difference[4:].min()


def test_from_stock_shares_the_parameters():
    stock = ConvolutionModule(8, 5)
    ours = MaskedConvolutionModule.from_stock(stock)
    assert dict(ours.named_parameters()).keys() == dict(stock.named_parameters()).keys()
    assert all(a is b for a, b in zip(ours.parameters(), stock.parameters(), strict=True))


def test_state_dict_keeps_the_stock_names():
    encoder = make_encoder("conformer")
    names = encoder.transformer.encoder.layers[0].state_dict()
    assert "convolution_module.conv.weight" in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention_type": "hypermixing"}, "'hypermixing' is not one of regularMHA, RelPosMHAXL, RoPEMHA"),
        ({"nhead": 3}, "d_model=16 is not a multiple of nhead=3"),
        ({"kernel_size": 4}, "kernel_size=4 is even"),
        ({"exit_layers": [1]}, "do not end at the full encoder"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConformerExitEncoder(**SIZES | {"num_layers": 2, "exit_layers": [1, 2]} | arguments)


@torch.no_grad()
def test_input_longer_than_the_table_of_positions_is_refused():
    make = {"num_layers": 1, "exit_layers": [1], "max_length": 10}
    encoder = TransformerExitEncoder(**SIZES, **make).eval()
    states, _ = encoder(torch.randn(1, 40, N_MELS), torch.tensor([40]))
    assert states[0].shape[1] == 10
    with pytest.raises(ValueError, match="11 encoder frames are more than max_length=10"):
        encoder(torch.randn(1, 41, N_MELS), torch.tensor([41]))
    relative = ConformerExitEncoder(**SIZES, **make, attention_type="RelPosMHAXL").eval()
    states, _ = relative(torch.randn(1, 80, N_MELS), torch.tensor([80]))
    assert states[0].shape[1] == 20, "relative positions have no table to run out of"


@pytest.mark.parametrize("family", ["conformer", "transformer"])
def test_config_rebuilds_the_encoder(family):
    encoder = make_encoder(family)
    again = type(encoder)(**encoder.config)
    shapes = {name: value.shape for name, value in encoder.state_dict().items()}
    assert shapes == {name: value.shape for name, value in again.state_dict().items()}
    assert again.config == encoder.config
    assert again.exit_layers == encoder.exit_layers
