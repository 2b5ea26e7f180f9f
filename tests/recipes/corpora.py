# SPDX-License-Identifier: Apache-2.0
"""Trees of the shape of public corpora: their folders, tables and audio formats, with noise for speech."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
WORDS = "mister quilter is the apostle of middle classes and we are glad to welcome his gospel".split()
CHARACTERS = "而对楼市成交抑制作用最大的限购也成为地方政府"
# Of a Conformer small enough for a test.
SMALL = {
    **{"num_layers": 3, "exit_layers": "[1, 3]", "d_model": 16, "nhead": 2, "d_ffn": 32, "kernel_size": 7},
    **{"channels": "[4, 4]", "n_mels": 20, "number_of_epochs": 1, "warmup_steps": 1},
    **{"max_batch_seconds": 6, "num_buckets": 2, "num_workers": 0, "average_checkpoints": 1},
}


def noise(rng, seconds):
    return 0.1 * rng.standard_normal(round(seconds * RATE))


def sentence(rng):
    return " ".join(rng.choice(WORDS, size=rng.integers(2, 5)))


def write_lines(path: Path, lines) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def write_librispeech(root: Path, subsets: dict[str, dict[str, int]]) -> Path:
    """Write subsets with a number of utterances for each speaker, one chapter each."""
    rng = np.random.default_rng(0)
    for subset, speakers in subsets.items():
        for speaker, number in speakers.items():
            folder = root / subset / speaker / "198"
            names = [f"{speaker}-198-{index:04}" for index in range(number)]
            write_lines(folder / f"{speaker}-198.trans.txt", [f"{name} {sentence(rng).upper()}" for name in names])
            for name in names:
                soundfile.write(folder / f"{name}.flac", noise(rng, 1.2), RATE)
    return root


def write_tedlium(root: Path, talks: dict[str, dict[str, list[str]]], *, seconds: float) -> Path:
    """Write talks of one length by set: each has an STM file with these lines, and a SPHERE file.

    The talks of train are in data/, too, whose recordings legacy/train links to.
    """
    rng = np.random.default_rng(0)
    (root / "data" / "sph").mkdir(parents=True)
    for name, stms in talks.items():
        folder = root / "legacy" / name
        (folder / "sph").mkdir(parents=True)
        for talk, lines in stms.items():
            write_lines(folder / "stm" / f"{talk}.stm", lines)
            sph = folder / "sph" / f"{talk}.sph"
            if name == "train":
                write_lines(root / "data" / "stm" / f"{talk}.stm", lines)
                sph.symlink_to(Path("../../../data/sph") / sph.name)
            soundfile.write(sph.resolve(), noise(rng, seconds), RATE, subtype="PCM_16", format="NIST")
    return root


def write_voxpopuli(root: Path, sets: dict[str, list[tuple[str, str, str]]]) -> Path:
    """Write sets of (id, normalised text, speaker): a table each, and Ogg Vorbis files by year."""
    rng, folder = np.random.default_rng(0), root / "transcribed_data" / "en"
    header = ["id", "raw_text", "normalized_text", "speaker_id", "split", "gender", "is_gold_transcript", "accent"]
    for name, rows in sets.items():
        lines = ["\t".join(header)]
        for one, text, speaker in rows:
            lines.append("\t".join([one, f'"{text.capitalize()}."', text, speaker, name, "female", "True", "None"]))
            (folder / one[:4]).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / one[:4] / f"{one}.ogg", noise(rng, 1.2), RATE)
        write_lines(folder / f"asr_{name}.tsv", lines)
    return root


def write_speechocean(root: Path, sets: dict[str, list[str]]) -> Path:
    """Write sets of speakers, three utterances each, with Kaldi's files."""
    rng = np.random.default_rng(0)
    for name, speakers in sets.items():
        ids = {speaker: [f"0{speaker}{index:04}" for index in (11, 35, 53)] for speaker in speakers}
        wavs = {one: f"WAVE/SPEAKER{speaker}/{one}.WAV" for speaker in speakers for one in ids[speaker]}
        for wav in wavs.values():
            (root / wav).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / wav, noise(rng, 1.2), RATE)
        write_lines(root / name / "wav.scp", [f"{one}\t{wav}" for one, wav in wavs.items()])
        write_lines(root / name / "text", [f"{one}\t{sentence(rng).upper()}" for one in wavs])
        write_lines(root / name / "utt2spk", [f"{one}\t{speaker}" for speaker in speakers for one in ids[speaker]])
        write_lines(root / name / "spk2utt", [f"{speaker}\t{' '.join(ids[speaker])}" for speaker in speakers])
        write_lines(root / name / "spk2gender", [f"{speaker}\tm" for speaker in speakers])
    return root


def write_aishell(root: Path, sets: dict[str, list[str]]) -> Path:
    """Write sets of speakers, three utterances each, and one file of transcripts with spaces between words."""
    rng, lines = np.random.default_rng(0), []
    for name, speakers in sets.items():
        for speaker in speakers:
            folder = root / "wav" / name / speaker
            folder.mkdir(parents=True)
            for index in (122, 123, 124):
                one = f"BAC009{speaker}W{index:04}"
                soundfile.write(folder / f"{one}.wav", noise(rng, 1.2), RATE)
                lines.append(f"{one} {' '.join(rng.choice(list(CHARACTERS), size=6))}")
    write_lines(root / "transcript" / "aishell_transcript_v0.8.txt", lines)
    return root
