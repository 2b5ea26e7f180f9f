# SPDX-License-Identifier: Apache-2.0
"""The synthetic default corpus: sentences of a small grammar, spoken by espeak-ng, some with noise or reverberation.

More than half of the utterances are nearly clean. The others have noise, babble, band limits and reverberation, with a
long tail of low signal-to-noise ratios, so that an early exit suffices for some utterances and not for others. Train,
dev and test share no speaker and no sentence. The espeak-ng wheel is GPL-3, hence the extra ``[synth]``::

    python -m speechbrain_ee.corpora.synthetic --out data/synthetic

It writes ``train.jsonl``, ``dev.jsonl``, ``test.jsonl``, 16 kHz PCM16 WAV below ``audio/``, and
``conditions.jsonl`` with every utterance's SNR and condition.
"""

import itertools
import json
import logging
import math
import multiprocessing
import signal
import sys
import wave
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ee_runtime.files import write_whole
from ee_runtime.threads import available_cpus
from speechbrain_ee.corpora.manifest import Utterance, write_manifest
from speechbrain_ee.corpora.synthetic.degrade import (
    NOISE_SLOPES,
    Condition,
    add_reverb,
    coloured_noise,
    draw_condition,
    limit_band,
    mix_at_snr,
)
from speechbrain_ee.corpora.synthetic.espeak import SAMPLE_RATE, Espeak, Speaker, SynthesisError, say
from speechbrain_ee.corpora.synthetic.grammar import ALPHABET, draw_fragments, draw_sentences
from speechbrain_ee.files import locked

logger = logging.getLogger(__name__)

VERSION = 4  # increase it when the same settings give another corpus
SPLITS = ("train", "dev", "test")
DONE_FILE = "corpus.json"  # the settings; written last, it marks a complete corpus
MEAN_SECONDS = 1.85  # measured mean of an utterance; converts hours to a number of utterances

# Every combination of accent and variant is a voice with its own pitch and rate.
ACCENTS = "en-us en en-gb-scotland en-gb-x-rp".split()
VARIANTS = "m1 m2 m3 m4 m5 f1 f2 f3 f4 f5".split()
SPEAKER_SHARES = {"train": 0.65, "dev": 0.15, "test": 0.2}
NUM_BABBLERS = 3
FRAGMENT_SHARE = 0.3  # share of the training utterances that are a few random words, not a sentence


@dataclass(frozen=True)
class Job:
    """All parameters of one utterance; the same job gives the same samples on every machine."""

    id: str
    split: str
    text: str
    speaker: Speaker
    condition: Condition
    babble: tuple[tuple[str, Speaker], ...]
    seed: tuple[int, ...]


def draw_speakers(rng: np.random.Generator) -> dict[str, list[Speaker]]:
    """Draw disjoint sets of voices for the splits, each voice with its pitch and rate."""
    voices = [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS]
    speakers = [
        Speaker(voices[i], int(rng.integers(25, 76)), int(rng.integers(140, 191))) for i in rng.permutation(len(voices))
    ]
    ends = np.cumsum([SPEAKER_SHARES[split] * len(speakers) for split in SPLITS]).round()
    parts = np.split(np.arange(len(speakers)), ends[:-1].astype(int))
    return {split: [speakers[i] for i in part] for split, part in zip(SPLITS, parts, strict=True)}


def plan(sizes: dict[str, int], seed: int) -> list[Job]:
    """Draw all random parameters of the corpus before synthesis."""
    rng = np.random.default_rng(seed)
    speakers = draw_speakers(rng)
    num_fragments = round(FRAGMENT_SHARE * sizes["train"])
    sentences = iter(draw_sentences(sum(sizes.values()) - num_fragments, rng))
    fragments = {"train": draw_fragments(num_fragments, rng)}
    jobs = []
    for split_index, split in enumerate(SPLITS):
        texts = fragments.get(split, [])
        texts += itertools.islice(sentences, sizes[split] - len(texts))
        voices = speakers[split]
        for i, text in enumerate(texts):
            draw = np.random.default_rng([seed, split_index, i])
            speaker = voices[i % len(voices)]
            condition = draw_condition(draw)
            # Babble uses texts and voices of the same split, so training has none of the test set.
            pairs = draw.integers(0, [len(texts), len(voices)], size=(NUM_BABBLERS, 2))
            babble = tuple((texts[t], voices[v]) for t, v in pairs)
            name = f"{split}-{i:05d}"
            seeds = (seed, split_index, i, 1)
            jobs.append(Job(name, split, text, speaker, condition, babble, seeds))
    return jobs


def _noise(job: Job, num_samples: int, espeak: Espeak, rng: np.random.Generator) -> np.ndarray:
    if job.condition.noise != "babble":
        return coloured_noise(num_samples, NOISE_SLOPES[job.condition.noise], rng)
    babble = np.zeros(num_samples)
    for text, speaker in job.babble:
        voice = say(espeak, text, speaker)
        babble += np.roll(np.resize(voice, num_samples), rng.integers(num_samples)) / voice.std()
    return babble


def render(job: Job, espeak: Espeak) -> np.ndarray:
    """Synthesize the samples of one utterance.

    Returns
    -------
    np.ndarray
        (num_samples,) int16 at 16 kHz
    """
    rng = np.random.default_rng(job.seed)
    margins = (rng.uniform(0.05, 0.2, size=2) * SAMPLE_RATE).astype(int)
    speech = np.pad(say(espeak, job.text, job.speaker), margins)
    speech = limit_band(add_reverb(speech, job.condition.rt60_s, rng), job.condition.channel)
    noise = limit_band(_noise(job, len(speech), espeak, rng), job.condition.channel)
    samples = mix_at_snr(speech, noise, job.condition.snr_db)
    level = 10 ** (rng.uniform(-30, -18) / 20) / np.sqrt(np.mean(samples**2))
    level = min(level, 0.95 / np.abs(samples).max())  # without clipping
    return np.round(samples * level * 32767).astype(np.int16)


@lru_cache(maxsize=1)
def _espeak() -> Espeak:
    return Espeak()


def _render_to_file(job: Job, out_dir: Path) -> Utterance:
    samples = render(job, _espeak())
    path = out_dir / "audio" / job.split / f"{job.id}.wav"
    with open(path, "wb") as file, wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        wav.writeframes(samples.tobytes())
    duration = round(len(samples) / SAMPLE_RATE, 6)
    return Utterance(job.id, path, duration, job.text, job.speaker.name)


def _render_all(jobs: list[Job], out_dir: Path, num_workers: int, progress: bool) -> list[Utterance]:
    bar = partial(tqdm, total=len(jobs), desc="speaking", unit="utt", disable=not progress)
    work = partial(_render_to_file, out_dir=out_dir)
    if num_workers == 1:
        return list(bar(map(work, jobs)))
    # Forked workers need no imports (seconds each) and call no library with threads.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    ignore_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)  # the parent process stops them
    with ProcessPoolExecutor(num_workers, context, ignore_ctrl_c) as pool:
        try:
            return list(bar(pool.map(work, jobs, chunksize=16)))
        except BrokenProcessPool:
            raise SynthesisError("a worker process was killed (out of memory?): use fewer num_workers") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _clear_audio(out_dir: Path) -> None:
    """Make the audio folders and remove WAVs of an earlier corpus; other files are kept."""
    for split in SPLITS:
        folder = out_dir / "audio" / split
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{split}-[0-9][0-9][0-9][0-9][0-9].wav"):
            path.unlink()


def _write_conditions(path: Path, jobs: list[Job]) -> None:
    rows = ({"id": j.id, "snr_db": j.condition.snr_db, "condition": j.condition.name} for j in jobs)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _is_done(out_dir: Path, settings: dict) -> bool:
    try:
        return json.loads((out_dir / DONE_FILE).read_text(encoding="utf-8")) == settings
    except (OSError, ValueError):
        return False


def _check_at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name}={number}: give at least 1")


def prepare(
    out_dir: str | Path,
    *,
    train_hours: float = 1.5,
    num_dev: int = 400,
    num_test: int = 400,
    seed: int = 1234,
    num_workers: int | None = None,
    progress: bool = True,
) -> None:
    """Make the corpus, unless a complete one with the same settings exists; wait if another process makes it.

    Arguments
    ---------
    out_dir : str | Path
        Folder for ``train.jsonl``, ``dev.jsonl``, ``test.jsonl``, ``conditions.jsonl`` and ``audio/``.
    train_hours : float
        Hours of training speech, accurate to a few percent.
    num_dev : int
        Number of utterances of the dev set.
    num_test : int
        Number of utterances of the test set.
    seed : int
        The same seed gives the same samples, with any number of workers.
    num_workers : int | None
        Number of processes; None means one per available core.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    ValueError
        If a size is not above zero, or the grammar has too few sentences.
    SynthesisError
        If espeak-ng is missing or fails.

    Example
    -------
    >>> _ = __import__("pytest").importorskip("espeakng_loader")
    >>> folder = getfixture("tmp_path")
    >>> prepare(folder, train_hours=0.002, num_dev=1, num_test=1, num_workers=1, progress=False)
    >>> sorted(path.name for path in folder.glob("*.jsonl"))
    ['conditions.jsonl', 'dev.jsonl', 'test.jsonl', 'train.jsonl']
    """
    if not 0 < train_hours < math.inf:
        raise ValueError(f"train_hours={train_hours}: give a finite number above 0")
    num_workers = available_cpus() if num_workers is None else num_workers
    _check_at_least_one(num_dev=num_dev, num_test=num_test, num_workers=num_workers)
    out_dir = Path(out_dir).absolute()
    settings = {"version": VERSION, "train_hours": float(train_hours)}
    settings |= {"num_dev": num_dev, "num_test": num_test, "seed": seed}
    if _is_done(out_dir, settings):
        logger.info("%s is complete with these settings, nothing to do", out_dir)
        return
    num_train = max(1, round(train_hours * 3600 / MEAN_SECONDS))
    jobs = plan({"train": num_train, "dev": num_dev, "test": num_test}, seed)
    _espeak()  # fails before anything is written or forked if the wheel is missing
    with locked(out_dir / ".lock", waiting_for="the corpus"):
        if not _is_done(out_dir, settings):  # another process may have made it meanwhile
            _make(out_dir, jobs, settings, num_workers=num_workers, progress=progress)


prepare.alphabet = ALPHABET  # of a tokenizer for this corpus, see `training.data`


def _make(out_dir: Path, jobs: list[Job], settings: dict, *, num_workers: int, progress: bool) -> None:
    (out_dir / DONE_FILE).unlink(missing_ok=True)
    _clear_audio(out_dir)
    utterances = _render_all(jobs, out_dir, min(num_workers, len(jobs)), progress)
    for split in SPLITS:
        mine = [u for u, job in zip(utterances, jobs, strict=True) if job.split == split]
        write_manifest(out_dir / f"{split}.jsonl", mine)
    _write_conditions(out_dir / "conditions.jsonl", jobs)
    write_whole(out_dir / DONE_FILE, json.dumps(settings).encode())
