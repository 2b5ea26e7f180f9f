#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train a TransformerLM over a recogniser's tokens, for the joint beam of its attention decoder.

python recipes/LibriSpeech/train_lm.py recipes/LibriSpeech/hparams/lm.yaml --tokenizer_file FILE [--key value ...]

Leaves ``model.ckpt`` in the output folder, the best on dev. The same command again goes on where it was stopped.
"""

import shutil
import sys
from pathlib import Path

import speechbrain as sb
import torch
from torch.nn.utils.rnn import pad_sequence

from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.errors import one_line_errors
from speechbrain_ee.hparams import check_same_run, load_hparams, parse_arguments, write_hparams
from speechbrain_ee.tokenizer import BOS_INDEX, EOS_INDEX, Tokenizer

NO_TARGET = -100  # torch's


class LMBrain(sb.Brain):
    """Predicts every token from those before it."""

    def compute_forward(self, batch, stage):
        """Token ids with BOS, (batch, tokens) -> logits (batch, tokens, vocab_size)."""
        return self.modules.lm(batch[0].to(self.device))

    def compute_objectives(self, predictions, batch, stage):
        """Cross entropy per token."""
        targets = batch[1].to(self.device)
        return torch.nn.functional.cross_entropy(predictions.transpose(1, 2), targets, ignore_index=NO_TARGET)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log perplexity, keep the best checkpoint on dev."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        perplexity = float(torch.tensor(stage_loss).exp())
        self.hparams.train_logger.log_stats(
            {"epoch": epoch}, train_stats={"loss": self.train_loss}, valid_stats={"perplexity": perplexity}
        )
        self.checkpointer.save_and_keep_only(meta={"perplexity": perplexity}, min_keys=["perplexity"])


def read_texts(manifest: str, text_file: str | None = None) -> list[str]:
    """Texts of a manifest, and the lines of a plain text in lower case."""
    texts = [utterance.text for utterance in read_manifest(manifest)]
    if text_file is not None:
        texts += [line.strip().lower() for line in Path(text_file).read_text("utf-8").splitlines() if line.strip()]
    return texts


def make_batches(texts: list[str], tokenizer: Tokenizer, max_tokens: int) -> list[tuple]:
    """Inputs and targets of texts of similar length together, at most ``max_tokens`` in a batch, padding included."""
    rows = sorted((tokenizer.encode(text) for text in texts), key=len)
    batches, batch = [], []
    for row in rows:
        if batch and (len(row) + 1) * (len(batch) + 1) > max_tokens:
            batches.append(batch)
            batch = []
        batch.append(row)
    batches.append(batch)
    return [(_pad(batch, BOS_INDEX, first=True), _pad(batch, EOS_INDEX, first=False)) for batch in batches]


def _pad(rows: list[list[int]], mark: int, *, first: bool) -> torch.Tensor:
    marked = [torch.tensor([mark, *row] if first else [*row, mark]) for row in rows]
    return pad_sequence(marked, batch_first=True, padding_value=EOS_INDEX if first else NO_TARGET)


def main(argv: list[str]) -> None:
    """Run the whole recipe."""
    hparams_file, run_opts, overrides = parse_arguments(argv)
    hparams = load_hparams(hparams_file, overrides)
    run = Path(hparams["output_folder"])
    check_same_run(run, hparams_file, overrides)
    write_hparams(run, hparams_file, overrides)
    sb.create_experiment_directory(run)
    tokenizer = Tokenizer(hparams["tokenizer_file"])
    if tokenizer.vocab_size != hparams["vocab_size"]:
        raise ValueError(
            f"the tokenizer {hparams['tokenizer_file']} has {tokenizer.vocab_size} tokens, the language model "
            f"{hparams['vocab_size']}: give --vocab_size {tokenizer.vocab_size}"
        )
    train = read_texts(hparams["train_manifest"], hparams["text_file"])
    train = make_batches(train, tokenizer, hparams["max_batch_tokens"])
    valid = make_batches(read_texts(hparams["valid_manifest"]), tokenizer, hparams["max_batch_tokens"])
    train_loader = torch.utils.data.DataLoader(train, batch_size=None, shuffle=True)
    valid_loader = torch.utils.data.DataLoader(valid, batch_size=None)
    brain = LMBrain(hparams["modules"], hparams["opt_class"], hparams, run_opts, hparams["checkpointer"])
    brain.fit(hparams["epoch_counter"], train_loader, valid_loader)
    best = hparams["checkpointer"].find_checkpoint(min_key="perplexity")
    shutil.copyfile(best.paramfiles["model"], run / "model.ckpt")
    print(f"{run / 'model.ckpt'}: perplexity {best.meta['perplexity']:.2f} on dev")


if __name__ == "__main__":
    with one_line_errors("train_lm.py"):
        main(sys.argv[1:])
