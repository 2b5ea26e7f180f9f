# SPDX-License-Identifier: Apache-2.0
"""Measure Whisper's encoder with exits against the same encoder in CTranslate2.

pip install ctranslate2 "speechbrain_ee[onnx,ssl]"
python benchmarks/whisper_against_ctranslate2.py ENCODER [--rounds 15]

ENCODER is a folder with the configuration and the weights of Whisper's encoder. Prints the figures as JSON and writes
them to results/whisper_against_ctranslate2.json. Both run on one thread, and all runs of one length alternate; times
are the minimum of the rounds. The input is noise of 2, 10 and 30 s, because the time depends on the length only.

* CTranslate2's encoder takes features of at most 30 s. Whisper itself always pads to 30 s (``padded``), but the
  audio can also be given as long as it is, as with the export. CTranslate2 needs a whole model, so the encoder gets a
  random decoder of one layer, which is never run.
* The export takes the utterance as long as it is. It has an exit after every second layer, with random heads.
  ``padded`` is the same model with the audio padded to 30 s, the same work as CTranslate2's.
* ``encoder_ms``: from features to the states of the exit after the layer named, or of the last layer in CTranslate2.
* ``total_ms``: from audio to text with the export. With CTranslate2: the features (computed by the export's graph) and
  the encoder, without any text, since the decoder is random.
* ``from_torch``: the largest difference of the states after the final norm from torch's, for the same features.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from common import VOCAB_SIZE, alternate, export_modules, publish
from transformers import WhisperConfig, WhisperForConditionalGeneration

from ee_runtime import EarlyExitRuntime
from ee_runtime.errors import one_line_errors
from ee_runtime.policies import FixedExit
from speechbrain_ee.lobes import CTCHeads, WhisperExitEncoder, WhisperLogMel

SECONDS = (2, 10, 30)
DECODER = {"decoder_layers": 1, "decoder_ffn_dim": 64, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1}
DECODER |= {"eos_token_id": 2, "decoder_start_token_id": 1}
KINDS = {"fp32": "float32", "int8": "int8_float32"}  # CTranslate2's names
RATE = 16000


def converter(encoder: WhisperExitEncoder):
    """Return CTranslate2's converter for an encoder with a random decoder."""
    from ctranslate2.converters import Converter  # not a package of this project
    from ctranslate2.converters.transformers import WhisperLoader

    class WholeWhisper(Converter):
        def _load(self):
            shape = encoder.config["backbone"]
            heads = {"decoder_attention_heads": shape["encoder_attention_heads"]}
            model = WhisperForConditionalGeneration(WhisperConfig(**shape | DECODER | heads)).eval()
            model.model.encoder.load_state_dict(encoder.backbone.state_dict())
            loader = WhisperLoader()
            spec = loader.get_model_spec(model)
            loader.set_config(spec.config, model, None)
            spec.register_vocabulary([f"<{token}>" for token in range(DECODER["vocab_size"])])
            return spec

    return WholeWhisper()


def export(folder: Path, source: str, num_layers: int) -> tuple[WhisperExitEncoder, dict[str, EarlyExitRuntime]]:
    """Export the encoder with an exit after every second layer, by precision."""
    torch.manual_seed(0)
    exit_layers = [*range(num_layers % 2 or 2, num_layers + 1, 2)]
    encoder = WhisperExitEncoder(num_layers=num_layers, exit_layers=exit_layers, source=source).eval()
    heads = CTCHeads(num_exits=len(exit_layers), d_model=encoder.d_model, vocab_size=VOCAB_SIZE)
    modules = {"features": WhisperLogMel(n_mels=encoder.frame_size), "encoder": encoder, "heads": heads}
    paths = {name: export_modules(modules, folder, name, int8=name == "int8") for name in KINDS}
    return encoder, {name: EarlyExitRuntime(path, threads=1) for name, path in paths.items()}


def convert(folder: Path, encoder: WhisperExitEncoder) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return CTranslate2's encoder by precision: features (batch, frames, n_mels) -> (batch, frames / 2, d_model)."""
    import ctranslate2

    path = converter(encoder).convert(str(folder / "ctranslate2"))

    def encode(feats: np.ndarray, whisper) -> np.ndarray:
        bands_first = np.ascontiguousarray(feats.transpose(0, 2, 1))
        return np.asarray(whisper.encode(ctranslate2.StorageView.from_array(bands_first)))

    encoders = {}
    for name, kind in KINDS.items():
        whisper = ctranslate2.models.Whisper(path, compute_type=kind, intra_threads=1, inter_threads=1)
        encoders[name] = lambda feats, whisper=whisper: encode(feats, whisper)
    return encoders


def features(model: EarlyExitRuntime, wav: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute features (1, frames, n_mels) and their number of frames, (1,)."""
    wavs, num_samples = model.make_batch([wav])
    feats, num_frames = model._features(wavs=wavs, num_samples=num_samples)
    return feats, num_frames


def states(model: EarlyExitRuntime, feats: np.ndarray, num_frames: np.ndarray, exit_index: int) -> np.ndarray:
    """Return the state (batch, frames, d_model) after the layers of an exit, before the final norm."""
    x, lengths = feats, num_frames
    for segment in model._segments[: exit_index + 1]:
        x, *rest = segment(x=x, lengths=lengths)
        lengths = rest[0] if rest else lengths
    return x


def measure(models: dict[str, EarlyExitRuntime], others: dict[str, Callable], seconds: int, rounds: int) -> dict:
    """Return milliseconds for one length, the minimum of the rounds."""
    wav = np.random.default_rng(0).standard_normal(seconds * RATE, dtype=np.float32) / 10
    long = np.pad(wav, (0, 30 * RATE - len(wav)))
    encoder, total = {}, {}
    for name, model in models.items():
        inputs, last = (model, *features(model, wav)), len(model.exit_layers) - 1
        for index, layer in enumerate(model.exit_layers):
            key, policy = f"export_{name}_layer_{layer}", FixedExit(layer)
            encoder[key] = lambda inputs=inputs, index=index: states(*inputs, index)
            total[key] = lambda model=model, policy=policy: model.transcribe_waveforms([wav], policy=policy)
        inputs = (model, *features(model, long))
        encoder[f"export_{name}_padded"] = lambda inputs=inputs, last=last: states(*inputs, last)
        total[f"export_{name}_padded"] = lambda model=model: model.transcribe_waveforms([long], policy=FixedExit())
    for name, encode in others.items():
        for suffix, audio in (("", wav), ("_padded", long)):
            feats, _ = features(models["fp32"], audio)
            encoder[f"ctranslate2_{name}{suffix}"] = lambda encode=encode, feats=feats: encode(feats)
            total[f"ctranslate2_{name}{suffix}"] = lambda encode=encode, audio=audio: encode(
                features(models["fp32"], audio)[0]
            )
    runs = {f"encoder {name}": run for name, run in encoder.items()}
    times = alternate(runs | {f"total {name}": run for name, run in total.items()}, rounds)
    return {
        f"{kind}_ms": {name: round(1000 * min(times[f"{kind} {name}"]), 1) for name in encoder}
        for kind in ("encoder", "total")
    }


@torch.no_grad()
def compare(
    encoder: WhisperExitEncoder, models: dict[str, EarlyExitRuntime], others: dict[str, Callable], seconds: int
) -> dict:
    """Return the largest differences of the last states from torch's, for noise of 5 s that is padded to a length."""
    wav = np.random.default_rng(1).standard_normal(5 * RATE, dtype=np.float32) / 10
    feats, num_frames = features(models["fp32"], np.pad(wav, (0, (seconds - 5) * RATE)))
    expected = encoder(torch.from_numpy(feats), torch.from_numpy(num_frames))[0][-1].numpy()
    found = {f"ctranslate2_{name}": encode(feats) for name, encode in others.items()}
    for name, model in models.items():
        state = states(model, feats, num_frames, len(model.exit_layers) - 1)
        found[f"export_{name}"] = encoder.exit_state(torch.from_numpy(state)).numpy()
    differences = {name: float(f"{np.abs(one - expected).max():.2g}") for name, one in found.items()}
    return {"largest_state": round(float(np.abs(expected).max()), 2), "from_torch": differences}


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoder", help="folder of Whisper's encoder")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of alternating runs (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = json.loads((Path(args.encoder) / "config.json").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        encoder, models = export(folder, args.encoder, config["encoder_layers"])
        others = convert(folder, encoder)
        figures = {
            "encoder": Path(args.encoder).name,
            "rounds": args.rounds,
            "exit_layers": list(encoder.exit_layers),
            "ctranslate2": version("ctranslate2"),
            "states": {f"{seconds} s": compare(encoder, models, others, seconds) for seconds in (5, 30)},
        }
        print(json.dumps(figures), flush=True)
        for seconds in SECONDS:
            rounds = args.rounds if seconds < 30 else max(5, args.rounds // 2)
            figures[f"{seconds} s"] = measure(models, others, seconds, rounds)
            print(json.dumps({f"{seconds} s": figures[f"{seconds} s"]}), flush=True)
    publish("whisper_against_ctranslate2", figures)


if __name__ == "__main__":
    with one_line_errors("whisper_against_ctranslate2.py"):
        main()
