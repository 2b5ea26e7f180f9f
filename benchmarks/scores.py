# SPDX-License-Identifier: Apache-2.0
"""Measure the time of all exit scores relative to a full run of the model.

python benchmarks/scores.py [--run RUN]

Prints the ratios as JSON and writes them to results/scores.json. The scores are computed at every exit; a full run is
features, encoder and last head. One thread, ten seconds of audio, batch sizes 1 and 8. The model has the paper's shape
and random weights. With --run, a trained model is also measured on the audio of its dev set, and the n-best posterior,
which needs a beam search, is measured separately.
"""

import argparse
from pathlib import Path

import torch
from common import EXIT_LAYERS, alternate, make_model, publish, ratio

from ee_runtime.audio import Excerpt
from ee_runtime.policies import FixedExit
from speechbrain_ee.corpora.recordings import load_audio
from speechbrain_ee.decoders.ctc import BeamCTC
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.inference.ctc_scores import output_scores
from speechbrain_ee.lobes import LogMel
from speechbrain_ee.replay.utterances import read_utterances

SECONDS = 10
NUM_ROUNDS = 15


def make_runs(features, encoder, heads, wavs: torch.Tensor) -> dict:
    """Return functions for a full run and for the scores of all exits, and the output of the last exit."""
    num_samples = torch.full((len(wavs),), wavs.shape[1])
    with torch.inference_mode():
        states, lengths = encoder(*features(wavs, num_samples))
        outputs = heads(states, lengths)

    def full() -> None:
        with torch.inference_mode():
            state = encoder.start(*features(wavs, num_samples))
            for _ in encoder.exit_layers:
                state, exit_state = encoder.advance(state)
            heads.head(len(encoder.exit_layers) - 1, exit_state, state.lengths)

    def scores() -> None:
        with torch.inference_mode():
            fresh = [output._replace() for output in outputs]  # without the best tokens cached in the round before
            for here, previous in zip(fresh, [None, *fresh], strict=False):
                output_scores(here, previous)

    return {"full": full, "scores": scores, "last": outputs[-1]}


def measure(features, encoder, heads, wavs: torch.Tensor, beam: BeamCTC | None = None) -> dict:
    """Return the ratios for one model and batch size."""
    runs = make_runs(features, encoder, heads, wavs)
    last = runs.pop("last")
    seconds = alternate(runs, NUM_ROUNDS)
    found = {"scores_over_full_run": ratio(seconds, "scores", "full"), "full_run_s": min(seconds["full"])}
    if beam is not None:
        posterior = alternate({"posterior": lambda: beam.decode(last)}, 3)
        found["posterior_of_one_exit_over_full_run"] = round(min(posterior["posterior"]) / min(seconds["full"]), 3)
    return found


def speech(run: Path, asr: EarlyExitASR) -> torch.Tensor:
    """Return ten seconds of the dev set of a run, (1, samples)."""
    waveforms, rate = [], asr.mods.features.sample_rate
    for line in read_utterances(run / "eval" / "dev" / "utterances.jsonl"):
        waveforms.append(load_audio(line["audio_filepath"], rate, excerpt=Excerpt.of_line(line)))
        if sum(map(len, waveforms)) >= SECONDS * 16000:
            break
    return torch.cat(waveforms)[None, : SECONDS * 16000]


def main() -> None:
    """Measure all models and batch sizes and publish the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder of a trained model")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict = {"seconds_of_audio": SECONDS}
    noise = torch.randn(1, SECONDS * 16000, generator=torch.Generator().manual_seed(0)) / 10
    paper = (LogMel(n_mels=80), *(module.eval() for module in make_model(EXIT_LAYERS)))
    for batch_size in (1, 8):
        figures[f"paper_batch_{batch_size}"] = measure(*paper, noise.repeat(batch_size, 1))
    if args.run is not None:
        asr = EarlyExitASR.from_hparams(args.run, policy=FixedExit(), run_opts={"device": "cpu"})
        model = (asr.mods.features, asr.mods.encoder, asr.mods.heads)
        wavs, beam = speech(args.run, asr), BeamCTC(asr.hparams.tokenizer, beam_size=10)
        figures["run_batch_1"] = measure(*model, wavs, beam)
        figures["run_batch_8"] = measure(*model, wavs.repeat(8, 1))
    publish("scores", figures)


if __name__ == "__main__":
    main()
