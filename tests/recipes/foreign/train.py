#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Example of early exits in a stock SpeechBrain CTC recipe: letters, Fbank, InputNormalization, its own Brain.

python train.py train.yaml --data_folder FOLDER

Above each changed line, a comment "stock:" shows the line of the stock recipe.
"""

import sys

import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml

from speechbrain_ee.lobes.padding import absolute_lengths


class ASR(sb.Brain):
    """CTC over letters."""

    def compute_forward(self, batch, stage):
        """Return the log-probabilities, here of all exits."""
        batch = batch.to(self.device)
        wavs, wav_lens = batch.sig
        feats = self.hparams.compute_features(wavs)
        feats = self.modules.normalize(feats, wav_lens)
        # stock: x = self.modules.encoder(feats)
        states, lengths = self.modules.encoder(feats, absolute_lengths(wav_lens, feats.shape[1]))
        # stock: return self.hparams.log_softmax(self.modules.ctc_lin(x)), wav_lens
        return self.modules.heads(states, lengths)

    def compute_objectives(self, predictions, batch, stage):
        """Return the CTC loss, here summed over the exits."""
        tokens, token_lens = batch.tokens
        # stock: p_ctc, lengths = predictions
        # stock: return sb.nnet.losses.ctc_loss(p_ctc, tokens, lengths, token_lens, self.hparams.blank_index)
        token_lengths = absolute_lengths(token_lens, tokens.shape[1])
        loss, self.per_exit = self.hparams.ctc_cost(predictions, tokens, token_lengths)
        return loss

    def on_stage_end(self, stage, stage_loss, epoch):
        """Log and save."""
        stats = {"loss": stage_loss}
        stats |= {f"exit_{i}": float(loss) for i, loss in enumerate(self.per_exit)}  # of the last batch
        self.hparams.train_logger.log_stats({"epoch": epoch, "steps": self.optimizer_step}, train_stats=stats)
        self.checkpointer.save_and_keep_only(meta={"loss": stage_loss}, min_keys=["loss"])


def dataio_prepare(hparams):
    """Read train.json, with letters as labels."""

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("sig")
    def audio_pipeline(wav):
        return sb.dataio.dataio.read_audio(wav)

    label_encoder = sb.dataio.encoder.CTCTextEncoder()

    @sb.utils.data_pipeline.takes("wrd")
    @sb.utils.data_pipeline.provides("char_list", "tokens")
    def text_pipeline(wrd):
        yield list(wrd)
        yield label_encoder.encode_sequence_torch(list(wrd))

    data = sb.dataio.dataset.DynamicItemDataset.from_json(
        hparams["train_json"],
        replacements={"data_root": hparams["data_folder"]},
        dynamic_items=[audio_pipeline, text_pipeline],
        output_keys=["id", "sig", "char_list", "tokens"],
    )
    label_encoder.insert_blank(index=hparams["blank_index"])
    label_encoder.update_from_didataset(data, output_key="char_list")
    return data


if __name__ == "__main__":
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    with open(hparams_file, encoding="utf-8") as fin:
        hparams = load_hyperpyyaml(fin, overrides)
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    asr_brain = ASR(hparams["modules"], hparams["opt_class"], hparams, run_opts, hparams["checkpointer"])
    options = hparams["dataloader_options"]
    asr_brain.fit(hparams["epoch_counter"], dataio_prepare(hparams), train_loader_kwargs=options)
