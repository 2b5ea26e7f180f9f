# SPDX-License-Identifier: Apache-2.0
"""Measure the time that early exits save, and compare it with the MACs that they save.

python benchmarks/early_stop.py [--rounds 15]

Prints three figures as JSON and writes them to results/early_stop.json. The model has the paper's shape and random
weights; the input is 10 s of random features; one thread is used.

* ``depth``: time of inference to the exit at layer k, relative to the full encoder. The expected share is that of the
  front-end plus k/12 of the layers.
* ``incremental_over_stock``: time of the incremental run through all exits without heads, relative to SpeechBrain's
  stock encoder.
* ``half_of_16_stop_at_layer_4``: time and MACs saved if half of a batch of 16 stops at layer 4.
"""

import argparse

import torch
from common import EXIT_LAYERS, alternate, make_model, publish, ratio

FRAMES = 1001


def run_to(encoder, heads, feats, lengths, exit_index, *, head=True):
    """Run the encoder incrementally to one exit, and its head if ``head``."""
    state = encoder.start(feats, lengths)
    for _ in range(exit_index + 1):
        state, exit_state = encoder.advance(state)
    return heads.head(exit_index, exit_state, state.lengths) if head else exit_state


def depth_shares(encoder, heads, feats, lengths, rounds) -> dict:
    """Return the measured and the expected share of the full run's time, per exit layer."""
    runs = {"front_end": lambda: encoder.start(feats, lengths)}
    for index, layer in enumerate(EXIT_LAYERS):
        runs[layer] = lambda index=index: run_to(encoder, heads, feats, lengths, index)
    calls = [0] * 12
    for number, module in enumerate(encoder.layers):
        module.register_forward_hook(lambda *_, number=number: calls.__setitem__(number, calls[number] + 1))
    run_to(encoder, heads, feats, lengths, 1)
    never_called_above = calls[4:] == [0] * 8
    seconds = alternate(runs, rounds)
    full, front = min(seconds[12]), min(seconds["front_end"])
    shares = {}
    for layer in EXIT_LAYERS:
        expected = front / full + (1 - front / full) * layer / 12
        measured = min(seconds[layer]) / full
        shares[layer] = {
            "measured_share": round(measured, 4),
            "layers_plus_front_end": round(expected, 4),
            "difference_points": round(100 * (measured - expected), 2),
        }
    return {
        "exits": shares,
        "front_end_share": round(front / full, 4),
        "full_seconds_for_10_s": round(full, 4),
        "layers_above_4_never_called": never_called_above,
    }


def incremental_over_stock(encoder, heads, feats, lengths, rounds) -> dict:
    """Return the time of the incremental run relative to the stock encoder with the same weights and front-end."""
    wav_lens = torch.ones(1)

    def stock():
        x, _ = encoder.frontend(feats, lengths)
        return encoder.transformer.encode(x, wav_lens)

    runs = {"incremental": lambda: run_to(encoder, heads, feats, lengths, 5, head=False), "stock": stock}
    return ratio(alternate(runs, rounds), "incremental", "stock")


def half_stop(encoder, heads, rounds) -> dict:
    """Return the share of MACs and of time saved if half of a batch stops at layer 4."""
    feats, lengths = torch.randn(16, FRAMES, 80), torch.full((16,), FRAMES)

    def run(stop_half: bool):
        state = encoder.start(feats, lengths)
        for index, layer in enumerate(EXIT_LAYERS):
            state, exit_state = encoder.advance(state)
            heads.head(index, exit_state, state.lengths)
            if stop_half and layer == 4:
                state = encoder.keep(state, torch.arange(0, 16, 2))

    seconds = alternate({"all": lambda: run(False), "half": lambda: run(True)}, rounds)
    segments = encoder.macs(FRAMES)
    head = heads.macs(encoder.num_output_frames(FRAMES))
    costs = [segment + head for segment in segments]
    macs_saved = 0.5 * sum(costs[2:]) / sum(costs)
    time_saved = 1 - min(seconds["half"]) / min(seconds["all"])
    return {
        "macs_saved": round(macs_saved, 4),
        "time_saved": round(time_saved, 4),
        "time_saved_over_macs_saved": round(time_saved / macs_saved, 4),
    }


@torch.inference_mode()
def main() -> None:
    """Measure and publish all three figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed runs of each variant")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    encoder, heads = make_model()
    encoder.eval()
    feats, lengths = torch.randn(1, FRAMES, 80), torch.tensor([FRAMES])
    publish(
        "early_stop",
        {
            "depth": depth_shares(encoder, heads, feats, lengths, rounds),
            "incremental_over_stock": incremental_over_stock(encoder, heads, feats, lengths, rounds),
            "half_of_16_stop_at_layer_4": half_stop(encoder, heads, max(3, rounds // 3)),
        },
    )


if __name__ == "__main__":
    main()
