# SPDX-License-Identifier: Apache-2.0
"""Cache of a frozen encoder's exit states on disk, in half precision, for training only the heads."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from speechbrain.utils.logger import get_logger
from torch import nn
from tqdm import tqdm

from ee_runtime.files import write_whole
from speechbrain_ee.code_version import code_version
from speechbrain_ee.corpora.batching import length_batches, padded_seconds, run_batch
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.recordings import load_audio, source_facts
from speechbrain_ee.files import locked
from speechbrain_ee.lobes.encoder import ExitEncoder
from speechbrain_ee.lobes.features import Features
from speechbrain_ee.lobes.padding import pad_batch
from speechbrain_ee.lobes.state_dicts import modules_digest

logger = get_logger(__name__)

HALF_BYTES = 2
HALF_MAX = 65504.0
SYNC_S = 10.0  # seconds of work that a power failure can lose
# States depend on this code, and on the libraries of layers and resampling.
CODE = ("lobes/**/*.py", "audio/*.py", "corpora/recordings.py")
LIBRARIES = ("speechbrain", "transformers", "soxr")


class StateCache:
    """States of every exit for a set of utterances, in one float16 file that is filled incrementally.

    The name of the file is a hash of the encoder's weights, the features, the utterances and the code that computes the
    states, so that stale states are never used. An index file beside it has one JSON line per utterance: the position
    of its states, and the size and modification time of its recording, with the times of its part if it is one. An
    interrupted computation is resumed, and only recordings that have changed are computed again. Reading uses no memory
    beyond that of a batch.

    Arguments
    ---------
    folder : str | Path
        Folder of the files; created if it does not exist.
    utterances : Sequence[Utterance]
        Utterances of one set.
    features : Features
        Features that the encoder takes.
    encoder : ExitEncoder
        Frozen encoder whose exit states are cached.

    Example
    -------
    >>> import soundfile
    >>> from speechbrain_ee.lobes import LogMel, TransformerExitEncoder
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", [0.5] * 16000, 16000)
    >>> encoder = TransformerExitEncoder(n_mels=8, num_layers=2, exit_layers=[1, 2], d_model=8, nhead=2, d_ffn=8)
    >>> utterances = [Utterance("a", folder / "a.wav", 1.0, "the cat")]
    >>> cache = StateCache(folder / "states", utterances, LogMel(n_mels=8), encoder)
    >>> cache.fill()
    >>> cache.read("a").shape, cache.read("a").dtype
    (torch.Size([26, 16]), torch.float16)
    """

    def __init__(self, folder: str | Path, utterances: Sequence[Utterance], features: Features, encoder: ExitEncoder):
        self.utterances = list(utterances)
        self.features, self.encoder = features, encoder
        self.width = len(encoder.exit_layers) * encoder.d_model
        self.content = self._content()
        self.path = Path(folder) / f"{self.content}-{code_version(*CODE, libraries=LIBRARIES)}.f16"
        self._index: dict[str, dict] | None = None

    def _content(self) -> str:
        digest = hashlib.sha256(modules_digest([self.features, self.encoder]).encode())
        for one in self.utterances:
            digest.update(f"{one.id}\0{one.audio_filepath}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    @property
    def _index_path(self) -> Path:
        return self.path.with_suffix(".jsonl")

    @property
    def num_bytes(self) -> int:
        """Size on disk in bytes, estimated from the durations."""
        return self._num_bytes(self.utterances)

    @property
    def num_missing_bytes(self) -> int:
        """Size in bytes of the states that are still to be computed, estimated from the durations."""
        return self._num_bytes(self._missing(self._read_index()))

    def _num_bytes(self, utterances: Sequence[Utterance]) -> int:
        rate = self.features.sample_rate
        frames = sum(
            self.encoder.num_output_frames(self.features.num_frames(round(one.duration * rate))) for one in utterances
        )
        return frames * self.width * HALF_BYTES

    @property
    def is_whole(self) -> bool:
        """Whether the states of all utterances are cached."""
        return not self._missing(self._read_index())

    def _missing(self, index: dict[str, dict]) -> list[Utterance]:
        """Return utterances without states, or whose recording has changed."""
        return [one for one in self.utterances if index.get(one.id, {}).get("file") != source_facts(one)]

    def _read_index(self) -> dict[str, dict]:
        """Return the position of each utterance's states; skip entries whose states are not complete."""
        try:
            lines = self._index_path.read_text("utf-8").splitlines()
            frames = self.path.stat().st_size // (self.width * HALF_BYTES)
        except FileNotFoundError:
            return {}
        found = [entry for entry in map(_entry, lines) if entry and entry["first"] + entry["frames"] <= frames]
        return {entry["id"]: entry for entry in found}  # the last line of an utterance wins

    def fill(self, *, device: str = "cpu", max_batch_seconds: float = 60.0) -> None:
        """Compute the missing states; if another process is computing them, wait for it.

        Arguments
        ---------
        device : str
            Device to compute on; afterwards the modules are moved back.
        max_batch_seconds : float
            Audio in a batch, including padding.

        Raises
        ------
        ValueError
            If the audio or states of some utterances cannot be used. The states of the others are kept.
        """
        with locked(self.path.with_suffix(".lock"), waiting_for="the states"):
            index = self._read_index()
            missing = self._missing(index)
            if not missing:
                return
            self._warn_about_stale_states()
            logger.info("%s: %.1f GB of states of %d utterances", self.path, self.num_bytes / 1e9, len(self.utterances))
            with _on_device((self.features, self.encoder), device):
                failed = self._write(index, {one.id for one in missing}, device, max_batch_seconds)
            self._index = None
        if failed:
            identity, error = next(iter(failed.items()))
            raise ValueError(
                f"{len(failed)} of {len(self.utterances)} utterances have no states (first: {identity}: {error}); "
                "those of the others are kept: repair or remove it, and run the same command again"
            )

    def _warn_about_stale_states(self) -> None:
        files = [path for path in self.path.parent.glob(f"{self.content}-*.f16") if path != self.path]
        files += [path for path in self.path.parent.glob("*.f16") if path.with_suffix(".json").exists()]
        if files:
            logger.warning(
                "%s: states that another version of the code computed (%.1f GB) are computed again: remove %s",
                *(self.path.parent, sum(path.stat().st_size for path in files) / 1e9, ", ".join(p.name for p in files)),
            )

    @torch.no_grad()
    def _write(self, index: dict, missing: set[str], device: str, max_batch_seconds: float) -> dict[str, Exception]:
        """Compute the batches with missing states; return the errors by utterance."""
        end = max((entry["first"] + entry["frames"] for entry in index.values()), default=0)
        failed: dict[str, Exception] = {}
        progress = tqdm(total=len(self.utterances), desc="states of the frozen encoder", delay=2, leave=False)
        # A batch is always computed as a whole, so that states do not depend on interruptions.
        if self._index_path.exists():  # an entry beyond the end of the data would later point to wrong states
            write_whole(self._index_path, "".join(json.dumps(entry) + "\n" for entry in index.values()).encode())
        with _Appended(self.path, self._index_path, end * self.width * HALF_BYTES) as store:
            for batch in self._batches(max_batch_seconds):
                if not missing.isdisjoint(one.id for one in batch):
                    for one, states in zip(batch, run_batch(lambda b: self._states(b, device), batch), strict=True):
                        if isinstance(states, Exception):
                            failed[one.id] = states
                            continue
                        entry = {
                            "id": one.id,
                            "first": end,
                            "frames": len(states),
                            "file": source_facts(one),
                        }
                        store.append(states.numpy().tobytes(), entry)
                        end += len(states)
                progress.update(len(batch))
        return failed

    def _states(self, batch: Sequence[Utterance], device: str) -> list[torch.Tensor]:
        """Return the concatenated states of all exits, (frames, exits * d_model) in half precision, per utterance."""
        waveforms = [load_audio(one.audio_filepath, self.features.sample_rate, excerpt=one.excerpt) for one in batch]
        feats, frames = self.features(*(one.to(device) for one in pad_batch(waveforms)))
        states, lengths = self.encoder(feats, frames)
        rows = torch.cat(states, dim=2).float().cpu()
        return [_as_half(row[:length]) for row, length in zip(rows, lengths.tolist(), strict=True)]

    def _batches(self, max_batch_seconds: float) -> list[list[Utterance]]:
        seconds = padded_seconds([one.duration for one in self.utterances], self.features.min_seconds)
        return [[self.utterances[index] for index in batch] for batch in length_batches(seconds, max_batch_seconds)]

    def read(self, utterance_id: str) -> torch.Tensor:
        """Return the concatenated states of all exits, (frames, exits * d_model), float16."""
        if self._index is None:
            self._index = self._read_index()
        if utterance_id not in self._index:
            raise ValueError(f"{self.path} has no states of {utterance_id!r}: run the same command again")
        entry = self._index[utterance_id]
        with open(self.path, "rb") as file:
            file.seek(entry["first"] * self.width * HALF_BYTES)
            states = np.fromfile(file, dtype=np.float16, count=entry["frames"] * self.width)
        return torch.from_numpy(states).view(entry["frames"], self.width)


class _Appended:
    """Appends to data and index; an index entry is written after its data has been flushed to the disk."""

    def __init__(self, data: Path, index: Path, size: int):
        self._data, self._index = open(data, "ab"), open(index, "a+b")
        self._data.truncate(size)  # data without an index entry, after an interruption
        if self._index.tell():
            self._index.seek(-1, os.SEEK_END)
            self._index.write(b"" if self._index.read(1) == b"\n" else b"\n")  # after an incomplete line
        self._pending: list[dict] = []
        self._synced = time.monotonic()

    def append(self, content: bytes, entry: dict) -> None:
        self._data.write(content)
        self._pending.append(entry)
        if time.monotonic() - self._synced > SYNC_S:
            self._sync()

    def _sync(self) -> None:
        lines = "".join(json.dumps(entry) + "\n" for entry in self._pending)
        for file, content in ((self._data, b""), (self._index, lines.encode())):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._pending, self._synced = [], time.monotonic()

    def __enter__(self) -> "_Appended":
        return self

    def __exit__(self, *_) -> None:
        try:
            self._sync()
        finally:
            self._data.close()
            self._index.close()


def _entry(line: str) -> dict | None:
    """Parse a line of the index; None for an incomplete line."""
    try:
        entry = json.loads(line)
        return entry if entry.keys() == {"id", "first", "frames", "file"} else None
    except (ValueError, AttributeError):
        return None


@contextmanager
def _on_device(modules: Sequence[nn.Module], device: str) -> Iterator[None]:
    """Move modules to a device in evaluation mode; afterwards restore device and mode."""
    modes = [module.training for module in modules]
    place = next((one.device for module in modules for one in module.parameters()), torch.device("cpu"))
    for module in modules:
        module.to(device).eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.to(place).train(mode)


def _as_half(states: torch.Tensor) -> torch.Tensor:
    largest = float(states.abs().max())
    if not largest <= HALF_MAX:
        raise ValueError(f"a state of {largest:g} exceeds the range of half precision: train without state_cache")
    return states.half()
