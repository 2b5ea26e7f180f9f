# SPDX-License-Identifier: Apache-2.0
"""Time of all exit scores against a full run of the model: one thread, ten seconds of audio, batch 1 and 8.

python benchmarks/scores.py

Scores are computed at every exit, as a policy that looks at each does. The n-best posterior, which needs a beam search,
is measured apart. Random weights: the beam of a trained model prunes more and costs less. Writes results/scores.json.
"""

import tempfile
from pathlib import Path

import torch
from common import EXIT_LAYERS, PAPER, VOCAB_SIZE, alternate, make_model, publish, ratio

from speechbrain_ee.ctc_scores import compute_scores
from speechbrain_ee.decoding import BeamCTC
from speechbrain_ee.lobes import ConformerExitEncoder, CTCHeads, LogMel
from speechbrain_ee.tokenizer import Tokenizer

SECONDS = 10
NUM_ROUNDS = 15
DEMO = {"n_mels": 40, "d_model": 96, "nhead": 4, "d_ffn": 384, "kernel_size": 7, "channels": [32, 32]}


def make_runs(features, encoder, heads, batch_size: int) -> dict:
    """A full run with the last head, and all scores of all exits on what such runs give."""
    wavs = torch.randn(batch_size, SECONDS * 16000, generator=torch.Generator().manual_seed(0)) / 10
    num_samples = torch.full((batch_size,), wavs.shape[1])
    with torch.inference_mode():
        states, lengths = encoder(*features(wavs, num_samples))
        log_probs = [log_probs * 3 for log_probs in heads(states)]  # as peaked as a trained model's
        log_probs = [one.log_softmax(-1) for one in log_probs]

    def full() -> None:
        with torch.inference_mode():
            state = encoder.start(*features(wavs, num_samples))
            for _ in encoder.exit_layers:
                state, exit_state = encoder.advance(state)
            heads.head(len(encoder.exit_layers) - 1, exit_state)

    def scores() -> None:
        with torch.inference_mode():
            for here, previous in zip(log_probs, [None, *log_probs], strict=False):
                compute_scores(here, lengths, previous=previous)

    return {"full": full, "scores": scores, "log_probs": log_probs, "lengths": lengths}


def posterior(log_probs: torch.Tensor, lengths: torch.Tensor) -> None:
    """The n-best posterior at one exit."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Tokenizer.train(["abcdefghijklmnopqrstuvwxyz '"], path=Path(folder) / "a.model", model_type="char")
    return lambda: BeamCTC(tokenizer, beam_size=10).decode(log_probs[:, :, : tokenizer.vocab_size], lengths)


def main() -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    demo = ConformerExitEncoder(num_layers=6, exit_layers=[1, 2, 3, 4, 5, 6], **DEMO).eval()
    models = {
        "demo, vocabulary 31": (LogMel(n_mels=40), demo, CTCHeads(num_exits=6, d_model=96, vocab_size=31)),
        f"paper, vocabulary {VOCAB_SIZE}": (
            LogMel(n_mels=PAPER["n_mels"]),
            *(m.eval() for m in make_model(EXIT_LAYERS)),
        ),
    }
    figures: dict = {"seconds_of_audio": SECONDS}
    for name, (features, encoder, heads) in models.items():
        for batch_size in (1, 8):
            runs = make_runs(features, encoder, heads, batch_size)
            log_probs, lengths = runs.pop("log_probs"), runs.pop("lengths")
            seconds = alternate(runs, NUM_ROUNDS)
            found = {"scores_over_full_run": ratio(seconds, "scores", "full"), "full_run_s": min(seconds["full"])}
            if "demo" in name and batch_size == 1:
                beam = alternate({"posterior": posterior(log_probs[-1], lengths)}, 3)
                found["posterior_of_one_exit_over_full_run"] = round(min(beam["posterior"]) / min(seconds["full"]), 3)
            figures[f"{name}, batch {batch_size}"] = found
    publish("scores", figures)


if __name__ == "__main__":
    main()
