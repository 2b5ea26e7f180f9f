# SPDX-License-Identifier: Apache-2.0
"""Measure early exits of an attention decoder, token by token: WER and MACs by confidence threshold.

python benchmarks/decoder_depth.py RUN --train FILE --test FILE [--epochs 2]

Prints the figures as JSON and writes them to results/decoder_depth.json: for each threshold and for the decoder cut at
each layer, the WER, the layers per token, and the share of the decoder's and of the whole model's MACs.

RUN is a run of conformer_aed_ee.yaml, preferably with ``--num_decoder_layers 4``. The decoder of its last exit is
fine-tuned with a frozen encoder and a loss after every decoder layer; all layers share the final norm and the output
layer. Decoding is greedy. Each token is taken from the first decoder layer whose probability reaches the threshold. The
skipped layers get their keys and values from the state of that layer (state propagation: Schuster et al., "Confident
adaptive language modeling", arXiv 2207.07061).
"""

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from ee_runtime.decoders.attention_search import GrowingText, Limit
from ee_runtime.errors import one_line_errors
from ee_runtime.special_tokens import BOS_INDEX
from speechbrain_ee.corpora.dataset import SpeechDataset
from speechbrain_ee.corpora.loader import make_loader
from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.lobes import AttentionDecoder
from speechbrain_ee.lobes.attention_decoder import extend, project, read
from speechbrain_ee.lobes.cost import exit_macs
from speechbrain_ee.text.metrics import word_errors
from speechbrain_ee.training.losses import NO_TARGET, attention_targets

THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.1)


def all_layers(decoder: AttentionDecoder, tokens, states, lengths) -> list[torch.Tensor]:
    """Return the logits after every decoder layer, each (batch, tokens, vocab)."""
    mask = torch.full((tokens.shape[1],) * 2, -torch.inf).triu(1)
    padding = torch.arange(states.shape[1]) >= lengths.unsqueeze(1)
    x = decoder.embed(tokens)
    found = []
    for layer in decoder.transformer.layers:
        x, _, _ = layer(x, states, tgt_mask=mask, memory_key_padding_mask=padding)
        found.append(decoder.output(decoder.transformer.norm(x)))
    return found


def train(asr: EarlyExitASR, decoder: AttentionDecoder, manifest: Path, epochs: int, lr: float) -> float:
    """Train the decoder with a loss after every layer; returns the mean loss of the last epoch."""
    data = SpeechDataset(read_manifest(manifest), asr.hparams.tokenizer, cache_audio=True)
    loader = make_loader(
        data, shuffle=True, seed=0, max_batch_seconds=40.0, max_batch_size=16, num_buckets=12, num_workers=0
    )
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=lr, betas=(0.9, 0.98))
    decoder.train().requires_grad_(True)  # loaded models are frozen
    for epoch in range(1, epochs + 1):
        loader.set_epoch(epoch)
        losses = []
        for batch in tqdm(loader, desc=f"epoch {epoch}", leave=False):
            with torch.no_grad():
                feats = asr.mods.features(*batch.sig)
                states, lengths = asr.mods.encoder(*feats)
            tokens, token_lengths = batch.tokens
            targets = attention_targets(tokens, token_lengths)
            inputs = torch.nn.functional.pad(tokens, (1, 0), value=BOS_INDEX)
            options = {"ignore_index": NO_TARGET, "label_smoothing": 0.1}
            each = [
                torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, **options)
                for logits in all_layers(decoder, inputs, states[-1], lengths)
            ]
            loss = sum(each) / len(each)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    decoder.eval()
    return sum(losses) / len(losses)


@torch.inference_mode()
def decode(decoder: AttentionDecoder, states, threshold: float, max_layer: int) -> tuple[list[int], list[int]]:
    """Return the tokens of one utterance, and the number of decoder layers of each step."""
    frames = states.shape[1]
    layers = list(decoder.transformer.layers)
    memory = [project(layer.multihead_attn.att, states, "kv") for layer in layers]
    past = [tuple(one[:, :, :0] for one in pair) for pair in memory]
    growing, depths, token = GrowingText(Limit(frames, frames)), [], BOS_INDEX
    while True:
        x = decoder.embed(torch.tensor([[token]]), len(depths))
        stopped = None
        for index, layer in enumerate(layers[:max_layer]):
            past[index] = extend(layer, x, past[index])
            if stopped is None:
                x = read(layer, x, past[index], memory[index], None)
                log_probs = decoder.output(decoder.transformer.norm(x)).float().log_softmax(-1)[0, 0]
                best = log_probs.max(-1)
                if best.values.exp() >= threshold or index == max_layer - 1:
                    stopped = index + 1
        depths.append(stopped)
        token = int(best.indices)
        if not growing.read(token, float(best.values), 0.0):
            return growing.hypothesis(0).tokens, depths


def spent(decoder: AttentionDecoder, frames: int, depths: list[int], max_layer: int, *, looks: bool) -> int:
    """Return the MACs of one decoding.

    Counted are the layers that ran, keys and values of all layers, and the output layer: after every layer that ran if
    ``looks``, else once per token.
    """
    width, ffn = decoder.config["d_model"], decoder.config["d_ffn"]
    macs = 2 * max_layer * frames * width**2
    for place, depth in enumerate(depths):
        run = 4 * width**2 + 2 * (place + 1) * width + 2 * frames * width + 2 * width * ffn + 2 * width**2
        macs += depth * run + (max_layer - depth) * 2 * width**2
        macs += (depth if looks else 1) * width * decoder.config["vocab_size"]
    return macs


def markdown(figures: dict) -> str:
    """Return a table with a row per threshold and per cut."""
    lines = [
        "| a token stops at | WER % | decoder layers per token | MACs of the decoder, % | MACs of the model, % |",
        "|---|---|---|---|---|",
    ]
    for way, one in figures["ways"].items():
        shares = f"{100 * one['share_of_decoder_macs']:.1f} | {100 * one['share_of_all_macs']:.1f}"
        lines.append(f"| {_rule(way)} | {one['wer']:.2f} | {one['layers_per_token']:.2f} | {shares} |")
    return "\n".join(lines)


def _rule(way: str) -> str:
    kind, _, value = way.rpartition(" ")
    if kind == "cut at":
        return f"decoder layer {value}, always"
    return "the last decoder layer, always" if float(value) > 1 else f"probability {value}"


def main() -> None:
    """Train the decoder, decode at every threshold and cut, publish."""
    from common import publish  # benchmarks/common.py

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of a model with attention decoders")
    parser.add_argument("--train", type=Path, required=True, help="manifest to train on")
    parser.add_argument("--test", type=Path, required=True, help="manifest to measure on")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of fine-tuning")
    parser.add_argument("--lr", type=float, default=5e-4, help="learning rate of the fine-tuning")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with one_line_errors("decoder_depth.py"):
        asr = EarlyExitASR.from_hparams(args.run, run_opts={"device": "cpu"})
        decoder = asr.mods.heads.decoder(len(asr.exit_layers) - 1)
        if decoder is None:
            raise ValueError(
                f"{args.run} has no attention decoder at its last exit: give a run folder of conformer_aed_ee.yaml"
            )
        before = measure(asr, decoder, args.test)
        loss = train(asr, decoder, args.train, args.epochs, args.lr)
        after = measure(asr, decoder, args.test)
        publish("decoder_depth", {"train_loss": loss, "before_training": before} | after)


@torch.inference_mode()
def measure(asr: EarlyExitASR, decoder: AttentionDecoder, manifest: Path) -> dict:
    """Return the WER and the cost at every threshold and cut."""
    num_layers = len(decoder.transformer.layers)
    ways = {f"threshold {one}": (one, num_layers) for one in THRESHOLDS}
    ways |= {f"cut at {layer}": (1.1, layer) for layer in range(1, num_layers)}
    sums = {way: {"errors": 0, "macs": 0, "layers": 0, "steps": 0} for way in ways}
    words = encoder_macs = 0
    for one in tqdm(read_manifest(manifest), desc="decode", leave=False):
        waveform = asr.load_audio(one.audio_filepath, excerpt=one.excerpt)
        feats, num_frames = asr.mods.features(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
        states, lengths = asr.mods.encoder(feats, num_frames)
        words += len(one.text.split())
        encoder_macs += exit_macs(asr.mods.encoder, asr.mods.heads, int(num_frames), heads_run=1)[-1]
        for way, (threshold, max_layer) in ways.items():
            tokens, depths = decode(decoder, states[-1], threshold, max_layer)
            text = asr.hparams.tokenizer.decode(tokens) if tokens else ""
            own = sums[way]
            own["errors"] += sum(word_errors(one.text, text).values())
            own["macs"] += spent(decoder, int(lengths), depths, max_layer, looks=threshold <= 1)
            own["layers"] += sum(depths)
            own["steps"] += len(depths)
    full = sums[f"threshold {THRESHOLDS[-1]}"]["macs"]
    found = {
        way: {
            "wer": round(100 * own["errors"] / words, 3),
            "layers_per_token": round(own["layers"] / own["steps"], 3),
            "share_of_decoder_macs": round(own["macs"] / full, 4),
            "share_of_all_macs": round((encoder_macs + own["macs"]) / (encoder_macs + full), 4),
        }
        for way, own in sums.items()
    }
    return {"decoder_share_of_all_macs": round(full / (encoder_macs + full), 4), "ways": found}


if __name__ == "__main__":
    main()
