# SPDX-License-Identifier: Apache-2.0
"""Exit states of a frozen encoder, computed once and kept on disk in half precision, for training heads alone."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from speechbrain.utils.logger import get_logger
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from speechbrain_ee.corpora.audio import load_audio
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.files import fsync, write_whole
from speechbrain_ee.lobes.encoder import ExitEncoder
from speechbrain_ee.lobes.features import Features

logger = get_logger(__name__)

HALF_BYTES = 2
HALF_MAX = 65504.0


class StateCache:
    """States of every exit for a set of utterances, in one file of float16.

    The file is named after the encoder's weights, the features and the utterances, so that what is there is reused
    and what belongs to something else is not. Reading maps no memory: training needs no more of it than a batch.

    Arguments
    ---------
    folder : str | Path
        Where the files are; made if missing.
    utterances : Sequence[Utterance]
        Of one set.
    features : Features
        Before the encoder.
    encoder : ExitEncoder
        Frozen; its exit states are kept.

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
        self.path = Path(folder) / f"{self._fingerprint()}.f16"
        self._index: dict[str, list[int]] | None = None

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for module in (self.features, self.encoder):
            digest.update(json.dumps(module.config, sort_keys=True).encode())
            for name, value in sorted(module.state_dict().items()):
                digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        for one in self.utterances:
            file = Path(one.audio_filepath).stat()
            digest.update(f"{one.id}\0{one.audio_filepath}\0{file.st_size}\0{file.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]

    @property
    def _index_path(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def num_bytes(self) -> int:
        """Size on disk, by the durations."""
        rate = self.features.sample_rate
        frames = sum(
            self.encoder.num_output_frames(self.features.num_frames(round(one.duration * rate)))
            for one in self.utterances
        )
        return frames * self.width * HALF_BYTES

    @property
    def is_whole(self) -> bool:
        """Whether all is there."""
        return self._index_path.exists() and self.path.exists()

    def fill(self, *, device: str = "cpu", max_batch_seconds: float = 60.0) -> None:
        """Compute what is not there yet; where another process does so, wait for it. An interrupted file is begun anew.

        Arguments
        ---------
        device : str
            Where to compute; afterwards the modules are where they were.
        max_batch_seconds : float
            Audio in a batch, padding included.

        Raises
        ------
        ValueError
            If a state does not fit into half precision.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            if self.is_whole:
                return
            logger.info("%s: %.1f GB of states of %d utterances", self.path, self.num_bytes / 1e9, len(self.utterances))
            modules = (self.features, self.encoder)
            modes = [module.training for module in modules]
            place = next((one.device for module in modules for one in module.parameters()), torch.device("cpu"))
            for module in modules:
                module.to(device).eval()
            self._write(device, max_batch_seconds)
            for module, mode in zip(modules, modes, strict=True):
                module.to(place).train(mode)

    @torch.no_grad()
    def _write(self, device: str, max_batch_seconds: float) -> None:
        index, position = {}, 0
        part = self.path.with_suffix(".part")
        with open(part, "wb") as file:
            progress = tqdm(total=len(self.utterances), desc="states of the frozen encoder", delay=2, leave=False)
            for batch in self._batches(max_batch_seconds):
                waveforms = [load_audio(one.audio_filepath, self.features.sample_rate) for one in batch]
                num_samples = torch.tensor([len(one) for one in waveforms], device=device)
                feats, frames = self.features(pad_sequence(waveforms, batch_first=True).to(device), num_samples)
                states, lengths = self.encoder(feats, frames)
                rows = torch.cat(states, dim=2).float().cpu()
                for row, one, length in zip(rows, batch, lengths.tolist(), strict=True):
                    _check_range(row[:length], one.id)
                    file.write(row[:length].half().numpy().tobytes())
                    index[one.id] = [position, length]
                    position += length
                progress.update(len(batch))
        fsync(part)
        os.replace(part, self.path)
        write_whole(self._index_path, json.dumps(index).encode())

    def _batches(self, max_batch_seconds: float) -> list[list[Utterance]]:
        """Utterances of like length together, the longest first: what does not fit fails at once, not after hours."""
        batches: list[list[Utterance]] = []
        for one in sorted(self.utterances, key=lambda utterance: utterance.duration, reverse=True):
            longest = max((batches[-1][0] if batches else one).duration, self.features.min_seconds)
            if not batches or (len(batches[-1]) + 1) * longest > max_batch_seconds:
                batches.append([])
            batches[-1].append(one)
        return batches

    def read(self, utterance_id: str) -> torch.Tensor:
        """States of all exits side by side, (frames, exits * d_model), float16."""
        if self._index is None:
            self._index = json.loads(self._index_path.read_text("utf-8"))
            frames = sum(length for _, length in self._index.values())
            if self.path.stat().st_size != frames * self.width * HALF_BYTES:
                raise ValueError(
                    f"{self.path} has not the size that its index says: remove both, they are computed again"
                )
        first, frames = self._index[utterance_id]
        with open(self.path, "rb") as file:
            file.seek(first * self.width * HALF_BYTES)
            states = np.fromfile(file, dtype=np.float16, count=frames * self.width)
        return torch.from_numpy(states).view(frames, self.width)


def check_room(caches: Sequence[StateCache]) -> None:
    """Refuse to begin where the disk has not the room for all that is still to be computed.

    Raises
    ------
    OSError
        If it has not; says what is needed and what is free.
    """
    missing = [cache for cache in caches if not cache.is_whole]
    if not missing:
        return
    folder = missing[0].path.parent
    folder.mkdir(parents=True, exist_ok=True)
    stale = sum(part.stat().st_size for part in (one.path.with_suffix(".part") for one in missing) if part.exists())
    needed, free = sum(cache.num_bytes for cache in missing), shutil.disk_usage(folder).free + stale
    if free < needed:
        raise OSError(
            f"the exit states take {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free: give another "
            "folder, or fewer exits"
        )


def _check_range(states: torch.Tensor, utterance_id: str) -> None:
    largest = float(states.abs().max())
    if not largest <= HALF_MAX:
        raise ValueError(
            f"{utterance_id}: a state of {largest:g} does not fit into half precision: train without state_cache"
        )


class CachedFeatures(nn.Module):
    """In place of features: what is read from a :class:`StateCache` is passed on."""

    def forward(self, states: torch.Tensor, num_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, frames, exits * d_model) and lengths, unchanged."""
        return states, num_frames


class CachedEncoder(nn.Module):
    """In place of a frozen encoder: takes the states of each exit out of what is read from a :class:`StateCache`.

    Arguments
    ---------
    num_exits : int
        Number of exits.

    Example
    -------
    >>> states, _ = CachedEncoder(num_exits=2)(torch.ones(1, 5, 16).half(), torch.tensor([5]))
    >>> [(state.shape, state.dtype) for state in states]
    [(torch.Size([1, 5, 8]), torch.float32), (torch.Size([1, 5, 8]), torch.float32)]
    """

    def __init__(self, *, num_exits: int):
        super().__init__()
        self.num_exits = num_exits

    def forward(self, states: torch.Tensor, num_frames: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """(batch, frames, exits * d_model) -> one (batch, frames, d_model) per exit, and lengths."""
        return list(states.float().chunk(self.num_exits, dim=2)), num_frames
