# SPDX-License-Identifier: Apache-2.0
"""Measure speculative decoding from CTC drafts, and the time that early exits save with attention decoders.

python benchmarks/attention.py RUN --manifest FILE [--num 60]

Prints the figures as JSON and writes them to results/attention.json. All runs use one thread and one utterance at a
time; the compared variants alternate in one process.

* ``speculation``: the decoder of the last exit verifies the CTC text of an exit in one pass, and decodes on its own
  from the first token that it rejects. Reported for each drafting exit: decoder passes, accepted tokens, share of
  texts equal to plain greedy decoding, MACs and time relative to plain greedy decoding.
* ``stopping_early``: the policy of RUN/calibration.json, relative to the full encoder. Reported for each decoding
  method: mean exit layer, decoders started per utterance, MACs and time.
"""

import argparse
from pathlib import Path

import torch

from ee_runtime.decoders.attention_search import greedy_search
from ee_runtime.decoders.base import best_tokens
from ee_runtime.decoders.speculation import speculative_search
from ee_runtime.errors import one_line_errors
from ee_runtime.policies import FixedExit
from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.lobes import AttentionDecoder

NUM_ROUNDS = 5


@torch.inference_mode()
def outputs_of(asr: EarlyExitASR, waveforms: list[torch.Tensor]) -> list[list]:
    """Return the outputs of all exits for each waveform."""
    found = []
    for waveform in waveforms:
        feats, num_frames = asr.mods.features(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
        found.append(asr.mods.heads(*asr.mods.encoder(feats, num_frames)))
    return found


@torch.inference_mode()
def speculation(asr: EarlyExitASR, outputs: list[list]) -> dict:
    """Return, per drafting exit, how much of its CTC text the decoder of the last exit accepts, MACs and time."""
    from common import alternate, ratio  # benchmarks/common.py

    last = [exits[-1] for exits in outputs]
    limits = [asr.decoder.limits(one, best_tokens(one))[0] for one in last]
    plain = [greedy_search(one, [limit])[0] for one, limit in zip(last, limits, strict=True)]
    runs = {"plain": lambda: [greedy_search(one, [limit]) for one, limit in zip(last, limits, strict=True)]}
    figures = {}
    for index, layer in enumerate(asr.exit_layers):
        drafts = [best_tokens(exits[index])[0] for exits in outputs]
        job = list(zip(last, limits, drafts, strict=True))
        found = [speculative_search(*one) for one in job]
        sums = {name: sum(counts[name] for _, counts in found) for name in ("passes", "offered", "accepted")}
        tokens = sum(len(one.tokens) for one in plain)
        figures[str(layer)] = {
            "share_of_texts_equal": sum(a.tokens == b.tokens for (a, _), b in zip(found, plain, strict=True))
            / len(plain),
            "share_of_tokens_accepted": round(sums["accepted"] / tokens, 4),
            "share_of_offered_accepted": round(sums["accepted"] / max(1, sums["offered"]), 4),
            "passes_per_utterance": round(sums["passes"] / len(plain), 2),
            "tokens_per_utterance": round(tokens / len(plain), 2),
            "macs_over_plain": round(sum(a.macs for a, _ in found) / sum(one.macs for one in plain), 4),
        }
        runs[str(layer)] = lambda job=job: [speculative_search(*one) for one in job]
    seconds = alternate(runs, NUM_ROUNDS)
    for layer, figure in figures.items():
        figure["time_over_plain"] = ratio(seconds, layer, "plain")
    return figures | {"plain_seconds_per_utterance": round(min(seconds["plain"]) / len(plain), 5)}


def stopping_early(asr: EarlyExitASR, waveforms: list[torch.Tensor]) -> dict:
    """Return decoders started, and MACs and time of the calibrated policy relative to full depth, per decoding."""
    from common import alternate, ratio

    early, starts = asr.policy, [0]
    start = AttentionDecoder.start

    def counted(self, states, lengths):
        starts[0] += 1
        return start(self, states, lengths)

    AttentionDecoder.start = counted
    figures = {"policy": {key: value for key, value in early.to_dict().items() if key != "learned"}}
    for decoding in ("greedy", "beam", "ctc"):
        asr.decoder = asr.make_decoder(decoding)

        def run(policy) -> list:
            return [asr.transcribe_waveforms([waveform], policy=policy)[0] for waveform in waveforms]

        starts[0] = 0
        stopped = run(early)
        started, full = starts[0], run(FixedExit())
        seconds = alternate({"early": lambda: run(early), "full": lambda: run(FixedExit())}, NUM_ROUNDS)  # noqa: B023
        figures[decoding] = {
            "mean_layer": round(sum(one.exit_layer for one in stopped) / len(stopped), 3),
            "decoders_started_per_utterance": started / len(waveforms),
            "macs_early_over_full": round(sum(one.macs for one in stopped) / sum(one.macs for one in full), 4),
            "time_early_over_full": ratio(seconds, "early", "full"),
            "full_seconds_per_utterance": round(min(seconds["full"]) / len(waveforms), 4),
        }
    AttentionDecoder.start = start
    return figures


def markdown(figures: dict) -> str:
    """Return two tables: speculation with a row per drafting exit, early exits with a row per decoding method."""
    lines = [
        "| layer of the draft | tokens from the draft | decoder passes per utterance, with / without draft "
        "| utterances with the same text | MACs, with / without draft | time, with / without draft |",
        "|---|---|---|---|---|---|",
    ]
    for layer, one in figures["speculation"].items():
        if isinstance(one, dict):
            lines.append(
                f"| {layer} | {100 * one['share_of_tokens_accepted']:.1f} % | {one['passes_per_utterance']:.1f} / "
                f"{one['tokens_per_utterance'] + 1:.1f} | {100 * one['share_of_texts_equal']:.0f} % | "
                f"{one['macs_over_plain']:.2f} | {one['time_over_plain']['median_of_ratios']:.2f} |"
            )
    lines += [
        "",
        "| decoding | mean exit layer of the policy | decoders started per utterance "
        "| MACs, policy / full depth | time, policy / full depth |",
        "|---|---|---|---|---|",
    ]
    for decoding, one in figures["stopping_early"].items():
        if decoding != "policy":
            lines.append(
                f"| {decoding} | {one['mean_layer']:.2f} | {one['decoders_started_per_utterance']:.2f} | "
                f"{one['macs_early_over_full']:.2f} | {one['time_early_over_full']['median_of_ratios']:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run both measurements and publish them."""
    from common import publish

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of a model with attention decoders")
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the utterances to decode")
    parser.add_argument("--num", type=int, default=60, help="number of utterances, spread over the manifest")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with one_line_errors("attention.py"):
        asr = EarlyExitASR.from_hparams(args.run, run_opts={"device": "cpu"})
        if not asr.mods.heads.has_decoders:
            raise ValueError(f"{args.run} has no attention decoders: give a run folder of conformer_aed_ee.yaml")
        utterances = read_manifest(args.manifest)
        some = utterances[:: max(1, len(utterances) // args.num)][: args.num]
        waveforms = [asr.load_audio(one.audio_filepath, excerpt=one.excerpt) for one in some]
        figures = {"speculation": speculation(asr, outputs_of(asr, waveforms))}
        publish("attention", figures | {"stopping_early": stopping_early(asr, waveforms)})


if __name__ == "__main__":
    main()
