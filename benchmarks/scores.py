# SPDX-License-Identifier: Apache-2.0
"""Time of all exit scores against a full run of the model: one thread, ten seconds of audio, batch 1 and 8.

python benchmarks/scores.py [--run RUN]

Scores are computed at every exit, as a policy that looks at each does; a full run is features, encoder and last head.
The paper's shape has random weights; RUN is a trained model, fed with what it was evaluated on as dev, and there the
n-best posterior, which needs a beam search, is measured apart. Writes results/scores.json.
"""

import argparse
from pathlib import Path

import torch
from common import EXIT_LAYERS, alternate, make_model, publish, ratio

from speechbrain_ee.corpora.recordings import load_audio
from speechbrain_ee.decoders.ctc import BeamCTC
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.inference.ctc_scores import output_scores
from speechbrain_ee.lobes import LogMel
from speechbrain_ee.policies import FixedExit
from speechbrain_ee.replay.utterances import read_utterances

SECONDS = 10
NUM_ROUNDS = 15


def make_runs(features, encoder, heads, wavs: torch.Tensor) -> dict:
    """A full run with the last head, and all scores of all exits on what such runs give."""
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
            for here, previous in zip(outputs, [None, *outputs], strict=False):
                output_scores(here, previous)

    return {"full": full, "scores": scores, "last": outputs[-1]}


def measure(features, encoder, heads, wavs: torch.Tensor, beam: BeamCTC | None = None) -> dict:
    """Ratios of one model at one batch size."""
    runs = make_runs(features, encoder, heads, wavs)
    last = runs.pop("last")
    seconds = alternate(runs, NUM_ROUNDS)
    found = {"scores_over_full_run": ratio(seconds, "scores", "full"), "full_run_s": min(seconds["full"])}
    if beam is not None:
        posterior = alternate({"posterior": lambda: beam.decode(last)}, 3)
        found["posterior_of_one_exit_over_full_run"] = round(min(posterior["posterior"]) / min(seconds["full"]), 3)
    return found


def speech(run: Path, asr: EarlyExitASR) -> torch.Tensor:
    """Ten seconds of the audio that a run was evaluated on as dev."""
    waveforms = []
    for line in read_utterances(run / "eval" / "dev" / "utterances.jsonl"):
        waveforms.append(load_audio(line["audio_filepath"], asr.mods.features.sample_rate))
        if sum(map(len, waveforms)) >= SECONDS * 16000:
            break
    return torch.cat(waveforms)[None, : SECONDS * 16000]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a trained run")
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
