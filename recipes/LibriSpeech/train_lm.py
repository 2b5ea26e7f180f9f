#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train a TransformerLM over the tokens of a recogniser, for the joint beam search of its attention decoder.

python recipes/LibriSpeech/train_lm.py recipes/LibriSpeech/hparams/lm.yaml --tokenizer_file FILE [--key value ...]

Writes ``model.ckpt``, the checkpoint with the lowest perplexity on dev, to the output folder. Run the same command
again to resume from the last finished epoch.
"""

import math
import shutil
import sys
from functools import partial
from pathlib import Path

from ee_runtime.errors import one_line_errors
from speechbrain_ee.startup import prepare_process

with one_line_errors("train_lm.py"):
    prepare_process()  # before torch is imported

import numpy as np
import speechbrain as sb
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from ee_runtime.special_tokens import BOS_INDEX
from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.errors import show_tracebacks
from speechbrain_ee.startup import check_device
from speechbrain_ee.text.tokenizer import Tokenizer
from speechbrain_ee.training.command_line import log_config, parse_arguments
from speechbrain_ee.training.hparams import load_hparams, write_hparams
from speechbrain_ee.training.losses import NO_TARGET, attention_targets
from speechbrain_ee.training.resume import check_same_data, check_same_run
from speechbrain_ee.training.schedulers import load_schedule


class Texts(Dataset):
    """The texts of a manifest and the lines of a text file, which is not loaded: LibriSpeech's LM text has 4 GB."""

    def __init__(self, manifest: str, text_file: str | None = None):
        self.utterances = read_manifest(manifest)
        self.texts = [utterance.text for utterance in self.utterances]
        self.file, self.starts = text_file, np.zeros(0, dtype=np.int64)
        if text_file is not None:
            with open(text_file, "rb") as lines:
                self.starts = np.cumsum(np.fromiter((len(line) for line in lines), dtype=np.int64))
            self.starts = np.concatenate([[0], self.starts[:-1]])

    def __len__(self):
        return len(self.texts) + len(self.starts)

    def __getitem__(self, index):
        """Return a text in lower case."""
        if index < len(self.texts):
            return self.texts[index]
        with open(self.file, "rb") as lines:
            lines.seek(self.starts[index - len(self.texts)])
            return " ".join(lines.readline().decode("utf-8").lower().split())


def to_batch(tokenizer: Tokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids with BOS and targets with EOS, (batch, tokens + 1) each."""
    rows = [torch.tensor(tokenizer.encode(text), dtype=torch.long) for text in texts]
    tokens = pad_sequence(rows, batch_first=True)
    inputs = torch.nn.functional.pad(tokens, (1, 0), value=BOS_INDEX)
    return inputs, attention_targets(tokens, torch.tensor([len(row) for row in rows]))


class LMBrain(sb.Brain):
    """Trains a model to predict every token from the tokens before it."""

    def compute_forward(self, batch, stage):
        """Token ids with BOS, (batch, tokens) -> logits (batch, tokens, vocab_size)."""
        return self.modules.lm(batch[0].to(self.device))

    def compute_objectives(self, predictions, batch, stage):
        """Return the cross entropy per token; sums it over dev."""
        targets = batch[1].to(self.device)
        loss = torch.nn.functional.cross_entropy(predictions.transpose(1, 2), targets, ignore_index=NO_TARGET)
        if stage != sb.Stage.TRAIN:
            count = int((targets != NO_TARGET).sum())
            self.sums = (self.sums[0] + float(loss) * count, self.sums[1] + count)
        return loss

    def on_stage_start(self, stage, epoch=None):
        """Reset the sums over dev."""
        self.sums = (0.0, 0)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log the perplexity and keep the best checkpoint on dev."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        perplexity = math.exp(self.sums[0] / self.sums[1])
        stats = {"train_stats": {"loss": self.train_loss}, "valid_stats": {"perplexity": perplexity}}
        self.hparams.train_logger.log_stats({"epoch": epoch, "steps": self.optimizer_step}, **stats)
        self.checkpointer.save_and_keep_only(meta={"perplexity": perplexity}, min_keys=["perplexity"])

    def init_optimizers(self):
        """Create the optimizer and its learning rate schedule."""
        super().init_optimizers()
        self.lr_scheduler = self.hparams.lr_scheduler(optimizer=self.optimizer)
        self.checkpointer.add_recoverable("lr_scheduler", self.lr_scheduler, load_schedule)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Update the learning rate after every optimizer step."""
        if should_step:
            self.lr_scheduler.step()


def main(argv: list[str]) -> None:
    """Run the recipe."""
    hparams_file, run_opts, settings = parse_arguments(argv)
    check_device(run_opts.device)
    hparams = load_hparams(hparams_file, settings)
    run = Path(hparams["output_folder"])
    check_same_run(run, hparams_file, settings)
    write_hparams(run, hparams_file, settings)
    sb.create_experiment_directory(run, **log_config(run_opts))
    show_tracebacks()
    tokenizer = Tokenizer(hparams["tokenizer_file"])
    if tokenizer.vocab_size != hparams["vocab_size"]:
        raise ValueError(
            f"the tokenizer {hparams['tokenizer_file']} has {tokenizer.vocab_size} tokens, the language model "
            f"{hparams['vocab_size']}: give --vocab_size {tokenizer.vocab_size}"
        )
    options = {"batch_size": hparams["batch_size"], "collate_fn": partial(to_batch, tokenizer)}
    texts = {"train": Texts(hparams["train_manifest"], hparams["text_file"]), "dev": Texts(hparams["valid_manifest"])}
    is_resumed = hparams["checkpointer"].find_checkpoint() is not None
    check_same_data(run, {name: one.utterances for name, one in texts.items()}, is_resumed=is_resumed)
    train = DataLoader(texts["train"], shuffle=True, **options)
    valid = DataLoader(texts["dev"], **options)
    brain = LMBrain(hparams["modules"], hparams["opt_class"], hparams, run_opts, hparams["checkpointer"])
    total_steps = len(train) * hparams["number_of_epochs"]
    brain.hparams.lr_scheduler = partial(hparams["lr_scheduler"], total_steps=total_steps)
    brain.fit(hparams["epoch_counter"], train, valid)
    best = hparams["checkpointer"].find_checkpoint(min_key="perplexity")
    shutil.copyfile(best.paramfiles["model"], run / "model.ckpt")
    print(f"{run / 'model.ckpt'}: perplexity {best.meta['perplexity']:.2f} on dev")


if __name__ == "__main__":
    with one_line_errors("train_lm.py"):
        main(sys.argv[1:])
