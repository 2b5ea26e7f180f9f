# SPDX-License-Identifier: Apache-2.0
"""The SpeechBrain Brain that trains a model with exits."""

import logging
import math

import speechbrain as sb
import torch

from ee_runtime.text.error_units import WORD, unit_of
from speechbrain_ee.lobes.padding import check_lengths
from speechbrain_ee.text.metrics import char_errors, num_chars, word_errors
from speechbrain_ee.training.processes import mean_of_processes
from speechbrain_ee.training.schedulers import give_lr_factor, load_schedule

logger = logging.getLogger(__name__)


class ExitBrain(sb.Brain):
    """Trains the modules ``features``, ``encoder`` and ``heads`` with a loss over all exits.

    The following entries of ``hparams`` are used:

    * ``loss``: see :mod:`speechbrain_ee.training.losses`
    * ``valid_decoder``: decodes the validation set, see :mod:`speechbrain_ee.decoders`
    * ``spec_augment``: list of callables that augment features, may be empty
    * ``exit_layers``
    * ``freezing``: called with the optimizer step before each batch
    * ``lr_scheduler``: called with the optimizer, returns a schedule, see :mod:`speechbrain_ee.training.schedulers`
    * ``encoder_lr_factor``: the encoder's learning rate as a share of that of the heads
    * ``select``: ``last`` or ``mean``; rank checkpoints by the error rate of the last exit or by the mean over exits
    * ``error_unit``: ``word`` or ``char``; the error rate is WER or CER
    * ``average_checkpoints``: number of best checkpoints to keep
    * ``train_logger``
    """

    def compute_forward(self, batch, stage):
        """Run every exit and return an :class:`~speechbrain_ee.lobes.heads.ExitOutput` per exit."""
        batch = batch.to(self.device)
        wavs, num_samples = batch.sig
        check_lengths(num_samples, len(wavs))
        feats, num_frames = self.modules.features(wavs, num_samples)
        if stage == sb.Stage.TRAIN:
            for augment in self.hparams.spec_augment:
                feats = augment(feats)
        states, lengths = self.modules.encoder(feats, num_frames)
        return self.modules.heads(states, lengths, *batch.tokens)

    def compute_objectives(self, predictions, batch, stage):
        """Sum the losses of the exits; weigh them by the share of the optimizer step, or count errors."""
        loss, per_exit = self.hparams.loss(predictions, *batch.tokens)
        if stage == sb.Stage.TRAIN:
            loader = self.train_loader
            loss = loss * self.hparams.loss.part_factor(loader.share(self.step), loader.num_parts)
        else:
            self._count_errors(predictions, batch)
            for losses, one in zip([self.summed_losses, *self.losses], [loss, *per_exit], strict=True):
                losses += [] if one is None else [float(one)] * len(batch.id)  # means over utterances, not over batches
        return loss

    def _count_errors(self, outputs, batch):
        count, length = (word_errors, _num_words) if self.unit == WORD else (char_errors, num_chars)
        for errors, output in zip(self.errors, outputs, strict=True):
            for reference, decoded in zip(batch.text, self.hparams.valid_decoder.decode(output), strict=True):
                errors.append((count(reference, decoded.text), length(reference)))

    def on_stage_start(self, stage, epoch=None):
        """Reset the error counts; set the epoch of the training data, which makes augmentation reproducible."""
        if stage == sb.Stage.TRAIN:
            self.train_loader.set_epoch(epoch)
            self.ids_of_step = []
        self.errors = [[] for _ in self.hparams.exit_layers]
        self.losses = [[] for _ in self.hparams.exit_layers]
        self.summed_losses = []

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log statistics; after validation, save a checkpoint and keep the best ones."""
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": float(stage_loss)}
            return
        loss = sum(self.summed_losses) / len(self.summed_losses)
        if not math.isfinite(loss):  # checked before a checkpoint is written
            raise ValueError(
                f"the validation loss is {loss} after epoch {epoch}: lower --lr and run the "
                "command again, which resumes from the last checkpoint"
            )
        key, rates = self.unit.key, [self._rate(errors) for errors in self.errors]
        stats = {"loss": loss}
        for layer, rate, losses in zip(self.hparams.exit_layers, rates, self.losses, strict=True):
            stats |= {f"{key}_{layer}": rate} | ({f"loss_{layer}": sum(losses) / len(losses)} if losses else {})
        self.hparams.train_logger.log_stats(
            stats_meta={"epoch": epoch, "lr": self.optimizer.param_groups[0]["lr"], "steps": self.optimizer_step},
            train_stats=self.train_stats,
            valid_stats=stats,
        )
        rate = rates[-1] if self.hparams.select == "last" else sum(rates) / len(rates)
        self.checkpointer.save_and_keep_only(
            meta={key: rate, "epoch": epoch}, min_keys=[key], num_to_keep=self.hparams.average_checkpoints
        )

    @property
    def unit(self):
        """What errors are counted in."""
        return unit_of(vars(self.hparams))

    def _rate(self, errors) -> float:
        return 100 * sum(sum(counts.values()) for counts, _ in errors) / max(1, sum(length for _, length in errors))

    def fit_batch(self, batch):
        """Train on a batch; return the mean of the losses of all processes, which is the same on each of them."""
        return mean_of_processes(super().fit_batch(batch), self.device)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Update the learning rate after every optimizer step."""
        if should_step:
            self.lr_scheduler.step()

    def init_optimizers(self):
        """Make the optimizer and its learning-rate schedule."""
        super().init_optimizers()
        if self.hparams.encoder_lr_factor != 1:
            give_lr_factor(self.optimizer, self.modules.encoder.parameters(), self.hparams.encoder_lr_factor)
        self.lr_scheduler = self.hparams.lr_scheduler(optimizer=self.optimizer)
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("lr_scheduler", self.lr_scheduler, load_schedule)

    def on_fit_batch_start(self, batch, should_step):
        """Freeze or unfreeze layers; record the ids of the batch for error messages."""
        self.hparams.freezing(self.optimizer_step)
        self.ids_of_step += batch.id

    def check_loss_isfinite(self, loss):
        """Stop at the first non-finite loss; SpeechBrain would continue for a few batches with NaN weights."""
        if not torch.isfinite(loss):
            raise self._diverged("loss", loss)

    def _diverged(self, what: str, value) -> ValueError:
        return ValueError(
            f"the {what} is {value.item()} in epoch {self.hparams.epoch_counter.current}, step {self.step}, utterances "
            f"{', '.join(self.ids_of_step)}: lower --lr or check these utterances, and run the command again, which "
            "resumes from the last checkpoint"
        )

    def optimizers_step(self):
        """Clip the gradient norm over *all* parameters; SpeechBrain clips only the first parameter group."""
        self.scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        limit = self.max_grad_norm if self.max_grad_norm > 0 else math.inf
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        # With fp16, the scaler itself skips steps whose gradients overflow.
        if not self.scaler.is_enabled() and not torch.isfinite(norm):
            raise self._diverged("gradient", norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer_step += 1
        self.ids_of_step = []

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        """Save within an epoch only between optimizer steps: accumulated gradients are not saved."""
        whole = self.step % self.grad_accumulation_factor == 0
        return super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt) and whole


def _num_words(reference: str) -> int:
    return len(reference.split())
