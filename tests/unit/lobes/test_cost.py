# SPDX-License-Identifier: Apache-2.0
"""Costs by formula equal the operations that torch counts while the layers run."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from unit.models import FAMILIES, SAMPLES, WAVEFORM_FAMILIES, make_encoder, make_heads

from speechbrain_ee.lobes import ConformerExitEncoder, CTCHeads
from speechbrain_ee.lobes.cost import count_parameters, exit_macs, exit_parameters, machine


@pytest.fixture(autouse=True)
def countable_attention():
    """Disable fused attention kernels, which torch's counter does not see."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with sdpa_kernel(SDPBackend.MATH):
        yield
    torch.backends.mha.set_fastpath_enabled(fast)


@torch.no_grad()
def counted_macs(encoder, heads, num_frames, exit_index, *, all_heads):
    """Count multiply-accumulates with torch, which counts matrix products and convolutions as two operations each."""
    with FlopCounterMode(display=False) as counter:
        state = encoder.start(torch.randn(1, num_frames, encoder.frame_size), torch.tensor([num_frames]))
        for index in range(exit_index + 1):
            state, exit_state = encoder.advance(state)
            if all_heads or index == exit_index:
                heads.head(index, exit_state, state.lengths)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("head_kind", ["linear", "mlp"])
@pytest.mark.parametrize("num_frames", [1, 101, 206])
@pytest.mark.parametrize("family", FAMILIES)
def test_formula_equals_counted_operations_at_every_exit(family, num_frames, head_kind):
    # no tolerance: formula and counter leave out the same operations
    encoder, heads = make_encoder(family), make_heads(kind=head_kind)
    num_frames *= SAMPLES if family in WAVEFORM_FAMILIES else 1
    for exit_index in range(3):
        for heads_run, all_heads in ((None, True), (1, False)):
            macs = exit_macs(encoder, heads, num_frames, heads_run=heads_run)[exit_index]
            assert macs == counted_macs(encoder, heads, num_frames, exit_index, all_heads=all_heads)


def test_costs_rise_and_deeper_segments_cost_by_their_layers():
    encoder, heads = make_encoder("conformer"), make_heads()
    first, second, third = exit_macs(encoder, heads, 101, heads_run=0)
    assert first == encoder.front_end_macs(101) + encoder.layer_macs(26)
    assert third - second == 2 * (second - first) == 2 * encoder.layer_macs(26)


def full_size():
    """The paper's Conformer with six exits; the paper does not give the front-end's channels."""
    encoder = ConformerExitEncoder(
        n_mels=80,
        num_layers=12,
        exit_layers=[2, 4, 6, 8, 10, 12],
        d_model=256,
        nhead=8,
        d_ffn=2048,
        kernel_size=31,
        channels=[64, 32],
    )
    return encoder, CTCHeads(num_exits=6, d_model=256, vocab_size=256)


def test_the_paper_number_of_parameters():
    with torch.device("meta"):
        encoder, heads = full_size()
    assert count_parameters(encoder) + count_parameters(heads) == pytest.approx(31.54e6, rel=0.005)
    assert exit_parameters(encoder, heads)[-1] == pytest.approx(31.21e6, rel=0.005)  # the paper's number with one exit
    assert count_parameters(heads) == 6 * (256 * 256 + 256)


def test_parameters_of_a_cut_model_are_those_of_a_shallower_one():
    encoder, heads = make_encoder("conformer"), make_heads()
    for exit_index, exit_layer in enumerate(encoder.exit_layers):
        twin = make_encoder("conformer", num_layers=exit_layer, exit_layers=[exit_layer])
        expected = count_parameters(twin) + count_parameters(make_heads(num_exits=1))
        assert exit_parameters(encoder, heads)[exit_index] == expected


def test_machine_measures_a_rate():
    found = machine(num_runs=5, size=256)
    assert found["gemm_gflops"] > 0
    assert found["cpu"]
    assert found["threads"] == torch.get_num_threads()
