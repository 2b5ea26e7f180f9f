#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Put exits onto a Conformer or Transformer that somebody else trained with SpeechBrain, and write a run folder.

hf download speechbrain/asr-conformer-transformerlm-librispeech --local-dir pretrained
python examples/retrofit.py pretrained train.csv --exit-layers 4,8,12 --out results/retrofit
speechbrain-ee evaluate results/retrofit --manifest dev.csv

The encoder and the head of the last exit keep their weights, so the last exit gives what the pretrained model gives
with CTC, or, with ``--attention``, with its decoder. The other heads are trained on the manifest. SpeechBrain's
``hyperparams.yaml`` can run any code: download only folders that you trust.
"""

import argparse
import random
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.fetching import LocalStrategy

from speechbrain_ee import ExitCTCLoss, save_run
from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.corpora.recordings import load_audio
from speechbrain_ee.lobes.padding import pad_batch
from speechbrain_ee.lobes.stock import exit_encoder, exit_heads, log_mel


def load_pretrained(folder: Path) -> dict:
    """Load a folder as SpeechBrain's ``from_hparams`` does; returns the objects of its yaml by key."""
    with open(folder / "hyperparams.yaml", encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file)
    hparams["pretrainer"].collect_files(default_source=str(folder), local_strategy=LocalStrategy.NO_LINK)
    hparams["pretrainer"].load_collected()
    return hparams


def train_heads(model: torch.nn.ModuleDict, tokenizer, utterances: list, *, epochs: int, lr: float) -> float:
    """Train all heads but the last on a frozen encoder; return the loss of the last epoch."""
    encoder, heads, sample_rate = model["encoder"], model["heads"], model["features"].sample_rate
    loss = ExitCTCLoss(exit_layers=encoder.exit_layers, weights=[1.0] * (heads.num_exits - 1) + [0.0])
    trained = [parameter for head in heads.heads[:-1] for parameter in head.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=lr)
    model.eval()  # no dropout in a frozen encoder
    order, mean = sorted(utterances, key=lambda one: one.duration), 0.0
    batches = [order[start : start + 8] for start in range(0, len(order), 8)]
    for epoch in range(epochs):
        random.Random(epoch).shuffle(batches)
        losses = []
        for batch in batches:
            wavs, num_samples = pad_batch([load_audio(one.audio_filepath, sample_rate) for one in batch])
            tokens, token_lengths = pad_batch([torch.tensor(tokenizer.encode_as_ids(one.text)) for one in batch])
            with torch.no_grad():
                states, lengths = encoder(*model["features"](wavs, num_samples))
            total, _ = loss(heads(states, lengths), tokens, token_lengths)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            losses.append(total.item() / (heads.num_exits - 1))
        mean = sum(losses) / len(losses)
        print(f"epoch {epoch + 1}: mean loss of the new exits {mean:.3f}")
    return mean


def main(argv: list[str] | None = None) -> None:
    """Load, put exits on, train and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the pretrained model")
    parser.add_argument("manifest", type=Path, help="training manifest: SpeechBrain CSV or JSON, or JSON lines")
    parser.add_argument("--data-root", type=Path, help="folder of relative audio paths; it replaces $data_root")
    parser.add_argument("--exit-layers", required=True, help="for example 4,8,12; the last one is the whole encoder")
    parser.add_argument("--attention", action="store_true", help="keep the attention decoder, at the last exit")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, required=True, help="run folder to write")
    given = parser.parse_args(argv)

    stock = load_pretrained(given.folder)
    normalizer = stock.get("normalizer") or stock.get("normalize")
    encoder = exit_encoder(stock["CNN"], stock["Transformer"], [int(layer) for layer in given.exit_layers.split(",")])
    parts = {"features": log_mel(stock["compute_features"], normalizer), "encoder": encoder}
    decoder = [stock["Transformer"], stock["seq_lin"]] if given.attention else []
    decoders_at = [encoder.num_layers] if given.attention else None
    parts["heads"] = exit_heads(encoder, stock["ctc_lin"], *decoder, decoders_at=decoders_at)
    utterances = read_manifest(given.manifest, data_root=given.data_root)
    train_heads(torch.nn.ModuleDict(parts), stock["tokenizer"], utterances, epochs=given.epochs, lr=given.lr)
    save_run(given.out, labels=stock["tokenizer"], **parts)
    print(f"{given.out}: a run folder; next: speechbrain-ee evaluate {given.out} --manifest DEV")


if __name__ == "__main__":
    main()
