# SPDX-License-Identifier: Apache-2.0
"""Exit states of a frozen encoder, computed once and kept on disk in half precision, for training heads alone."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from speechbrain.utils.logger import get_logger
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from speechbrain_ee.corpora.audio import load_audio
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.files import write_whole
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
            digest.update(f"{one.id}\0{one.audio_filepath}\0{one.duration}\n".encode())
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

    @torch.inference_mode()
    def fill(self, *, device: str = "cpu", max_batch_seconds: float = 60.0) -> None:
        """Compute what is not there yet; an interrupted file is begun anew.

        Arguments
        ---------
        device : str
            Where to compute.
        max_batch_seconds : float
            Audio in a batch, padding included.

        Raises
        ------
        OSError
            If the disk has not the room for it, before anything is computed.
        ValueError
            If a state does not fit into half precision.
        """
        if self._index_path.exists():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.path.parent).free
        if free < self.num_bytes:
            raise OSError(
                f"the states of {len(self.utterances)} utterances take {self.num_bytes / 1e9:.1f} GB and "
                f"{self.path.parent} has {free / 1e9:.1f} GB free: give another folder, or fewer exits"
            )
        logger.info("%s: %.1f GB of states of %d utterances", self.path, self.num_bytes / 1e9, len(self.utterances))
        features, encoder = self.features.to(device).eval(), self.encoder.to(device).eval()
        index, position = {}, 0
        with open(self.path, "wb") as file:
            progress = tqdm(total=len(self.utterances), desc="states of the frozen encoder", delay=2, leave=False)
            for batch in self._batches(max_batch_seconds):
                waveforms = [load_audio(one.audio_filepath, features.sample_rate) for one in batch]
                num_samples = torch.tensor([len(one) for one in waveforms], device=device)
                states, lengths = encoder(*features(pad_sequence(waveforms, batch_first=True).to(device), num_samples))
                rows = torch.cat(states, dim=2).float().cpu()
                for row, one, frames in zip(rows, batch, lengths.tolist(), strict=True):
                    _check_range(row[:frames], one.id)
                    file.write(row[:frames].half().numpy().tobytes())
                    index[one.id] = [position, frames]
                    position += frames
                progress.update(len(batch))
        write_whole(self._index_path, json.dumps(index).encode())

    def _batches(self, max_batch_seconds: float) -> list[list[Utterance]]:
        """Utterances of like length together."""
        batches: list[list[Utterance]] = []
        for one in sorted(self.utterances, key=lambda utterance: utterance.duration):
            if not batches or (len(batches[-1]) + 1) * one.duration > max_batch_seconds:
                batches.append([])
            batches[-1].append(one)
        return batches

    def read(self, utterance_id: str) -> torch.Tensor:
        """States of all exits side by side, (frames, exits * d_model), float16."""
        if self._index is None:
            self._index = json.loads(self._index_path.read_text("utf-8"))
        first, frames = self._index[utterance_id]
        with open(self.path, "rb") as file:
            file.seek(first * self.width * HALF_BYTES)
            states = np.fromfile(file, dtype=np.float16, count=frames * self.width)
        return torch.from_numpy(states).view(frames, self.width)


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
