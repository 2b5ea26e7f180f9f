# SPDX-License-Identifier: Apache-2.0
"""Re-encode the audio of a manifest as small Opus files, for transfer over a slow connection.

python benchmarks/pack_speech.py data/speech/train.jsonl --out data/packed/train

Writes OUT/audio and OUT/<manifest>, and prints their size. At ``--compression 0.97``, speech at 16 kHz takes about
16 kbit/s (7 MB per hour).
"""

import argparse
import multiprocessing
from dataclasses import replace
from pathlib import Path

import soundfile

from ee_runtime.errors import one_line_errors
from speechbrain_ee.corpora.manifest import Utterance, read_manifest, write_manifest
from speechbrain_ee.corpora.recordings import load_audio

SAMPLE_RATE = 16000


def pack(utterance: Utterance, file: Path, compression: float) -> Utterance:
    """Re-encode one recording; returns the utterance with the new file."""
    samples = load_audio(utterance.audio_filepath, SAMPLE_RATE, excerpt=utterance.excerpt).numpy()
    soundfile.write(file, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=compression)
    return replace(utterance, audio_filepath=file.resolve(), offset=None, channel=None)


def main() -> None:
    """Re-encode all recordings, write the manifest and print the size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path, help="manifest to re-encode")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--compression", type=float, default=0.97, help="0 (large) to 1 (small)")
    args = parser.parse_args()
    folder = args.out / "audio"
    folder.mkdir(parents=True, exist_ok=True)
    work = [
        (one, folder / f"{number}.opus", args.compression) for number, one in enumerate(read_manifest(args.manifest))
    ]
    with multiprocessing.Pool() as pool:
        packed = pool.starmap(pack, work, chunksize=50)
    write_manifest(args.out / args.manifest.name, packed)
    size = sum(one.audio_filepath.stat().st_size for one in packed)
    hours = sum(one.duration for one in packed) / 3600
    print(f"{args.out}: {len(packed)} utterances, {hours:.2f} h, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    with one_line_errors("pack_speech.py"):
        main()
