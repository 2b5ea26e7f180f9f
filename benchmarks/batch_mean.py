# SPDX-License-Identifier: Apache-2.0
"""Compare exit decisions per batch with exit decisions per utterance: WER and MACs at equal thresholds.

python benchmarks/batch_mean.py RUN --manifest data/speech/test.jsonl [--batch-sizes 1 16] [--out FILE]

Prints the figures as JSON and as Markdown tables. The sets must have been evaluated: errors are read from
RUN/eval/<manifest's stem>.

* ``batch mean`` is the decision described in "Fine-tuning strategies for faster inference using speech self-supervised
  models" (arXiv 2303.06740): utterances are sorted by duration, the entropy is averaged over all frames of a batch, and
  the whole batch stops if the mean is at most the threshold. Padding frames are included and are computed as silence.
* ``each utterance`` is the decision of speechbrain_ee: the entropy is averaged over the frames of an utterance, and an
  utterance that stops leaves the batch.

Both use the same model, heads, batches and thresholds. MACs include padding. Here the full MACs include the heads of
all exits, because both variants compute them; other tables count the last head only.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ee_runtime.errors import one_line_errors
from ee_runtime.policies import FixedExit
from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.inference.ctc_scores import compute_scores
from speechbrain_ee.replay.utterances import read_utterances


class Batch:
    """The entropies of one batch at every exit, per batch and per utterance, and its cost."""

    def __init__(self, asr: EarlyExitASR, waveforms: list[torch.Tensor]):
        encoder, heads = asr.mods.encoder, asr.mods.heads
        padded = pad_sequence(waveforms, batch_first=True)
        num_samples = torch.tensor([len(one) for one in waveforms])
        feats, self.frames = asr.mods.features(padded, num_samples)
        outputs = heads(*encoder(feats, self.frames))
        as_silence = heads(*encoder(*asr.mods.features(padded, torch.full_like(num_samples, padded.shape[1]))))
        log_vocab = math.log(outputs[0].log_probs.shape[2])
        self.of_batch = [float(-(one.log_probs.exp() * one.log_probs).sum(2).mean() / log_vocab) for one in as_silence]
        own = [compute_scores(one, names=["entropy"])["entropy"] for one in outputs]
        self.of_utterances = torch.stack(own, dim=1).tolist()
        self.encoder, self.heads = encoder, heads

    def cost(self, exits: list[int]) -> int:
        """Return the MACs of the batch if its utterances leave it at the given exits."""
        total = 0
        for index in range(max(exits) + 1):
            remaining = [int(frames) for frames, last in zip(self.frames, exits, strict=True) if last >= index]
            longest = max(remaining)
            head = self.heads.macs(self.encoder.num_output_frames(longest))
            total += len(remaining) * (self.encoder.macs(longest)[index] + head)
        return total

    def together(self, threshold: float) -> list[int]:
        """Return the exit of every utterance for the decision per batch."""
        return [_first(self.of_batch, threshold)] * len(self.of_utterances)

    def apart(self, threshold: float) -> list[int]:
        """Return the exit of every utterance for the decision per utterance."""
        return [_first(row, threshold) for row in self.of_utterances]


def _first(entropies: list[float], threshold: float) -> int:
    return next((index for index, value in enumerate(entropies) if value <= threshold), len(entropies) - 1)


def at_threshold(batches: list[Batch], errors: list[np.ndarray], words: int, threshold: float) -> dict:
    """Return the WER and the share of the full MACs of both decisions."""
    full = sum(batch.cost([len(batch.of_batch) - 1] * len(batch.of_utterances)) for batch in batches)
    found = {}
    for name in ("batch mean", "each utterance"):
        wrong = spent = 0
        for batch, counts in zip(batches, errors, strict=True):
            exits = batch.together(threshold) if name == "batch mean" else batch.apart(threshold)
            wrong += int(counts[np.arange(len(exits)), exits].sum())
            spent += batch.cost(exits)
        found[name] = {"wer": round(100 * wrong / words, 2), "macs_share": round(spent / full, 4)}
    return found


@torch.inference_mode()
def compare(run: Path, manifest: Path, batch_sizes: list[int], num_thresholds: int) -> dict:
    """Compare both decisions at every batch size and threshold."""
    asr = EarlyExitASR.from_hparams(run, policy=FixedExit())
    utterances = sorted(read_manifest(manifest), key=lambda one: one.duration)
    cached = {one["id"]: one for one in read_utterances(run / "eval" / manifest.stem / "utterances.jsonl")}
    errors = np.array([[sum(one["errors"].values()) for one in cached[u.id]["exits"]] for u in utterances])
    words = sum(cached[one.id]["num_words"] for one in utterances)
    waveforms = [asr.load_audio(one.audio_filepath, excerpt=one.excerpt) for one in utterances]
    scores = np.array([[one["scores"]["entropy"] for one in cached[u.id]["exits"]] for u in utterances])
    thresholds = np.quantile(scores[:, :-1], np.linspace(0.05, 0.95, num_thresholds))
    found = {}
    for size in batch_sizes:
        starts = range(0, len(waveforms), size)
        batches = [Batch(asr, waveforms[first : first + size]) for first in starts]
        counts = [errors[first : first + size] for first in starts]
        found[str(size)] = [
            {"threshold": round(float(value), 4)} | at_threshold(batches, counts, words, value) for value in thresholds
        ]
    return found


def markdown(found: dict) -> str:
    """Return a table per set: a row per threshold, a column per batch size and decision, WER / share of full MACs."""
    lines = []
    for test_set, sizes in found["sets"].items():
        heads = [
            f"{way}, batches of {size}: WER % / MACs %" for size, rows in sizes.items() for way in list(rows[0])[1:]
        ]
        lines += [f"\n{test_set}\n", "| threshold | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for of_threshold in zip(*sizes.values(), strict=True):
            ways = [way for row in of_threshold for way in list(row.values())[1:]]
            cells = [f"{way['wer']:.1f} / {100 * way['macs_share']:.1f}" for way in ways]
            lines.append(f"| {of_threshold[0]['threshold']:.4f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Compare the decisions, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder in which the sets have been evaluated")
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="test sets")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])
    parser.add_argument(
        "--thresholds", type=int, default=7, help="number of thresholds, quantiles of the measured entropies"
    )
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    sets = {one.stem: compare(args.run, one, args.batch_sizes, args.thresholds) for one in args.manifest}
    found = {"benchmark": "batch_mean", "run": str(args.run), "sets": sets}
    text = json.dumps(found, indent=1)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n", "utf-8")
    print(markdown(found))


if __name__ == "__main__":
    with one_line_errors("batch_mean.py"):
        main()
