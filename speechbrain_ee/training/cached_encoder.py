# SPDX-License-Identifier: Apache-2.0
"""Train heads alone: states from a cache take the place of audio, features and encoder."""

import shutil
from collections.abc import Callable, Sequence

import torch
from speechbrain.utils.distributed import ddp_barrier
from torch import nn

from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.lobes.encoder import ExitEncoder
from speechbrain_ee.training.state_cache import StateCache


def check_room(caches: Sequence[StateCache]) -> None:
    """Refuse to begin where the disk has not the room for all that is still to be computed.

    Raises
    ------
    OSError
        If it has not; says what is needed and what is free.
    """
    needed = sum(cache.num_missing_bytes for cache in caches)
    if not needed:
        return
    folder = caches[0].path.parent
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"the exit states take {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free: give another "
            "folder, or fewer exits"
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


def cache_states(hparams: dict, device: str, *sets: list[Utterance]) -> tuple[Callable, ...]:
    """Compute the states of a frozen encoder once, and give what reads them.

    Arguments
    ---------
    hparams : dict
        With ``state_cache``, ``freezing``, ``features`` and ``encoder``.
    device : str
        Where to compute.
    *sets : list of Utterance
        A cache is made of each.

    Returns
    -------
    tuple of callable
        For each set, gives an utterance's states, (frames, exits * d_model), by its id.

    Raises
    ------
    ValueError
        If the encoder is trained, or a state does not fit into half precision.
    OSError
        If the disk has not enough room.
    """
    if not hparams["freezing"].always_all:
        raise ValueError("state_cache keeps the states of a frozen encoder: give --freeze encoder and no --unfreeze")
    features, encoder = hparams["features"], hparams["encoder"]
    caches = [StateCache(hparams["state_cache"], utterances, features, encoder) for utterances in sets]
    check_room(caches)
    for cache in caches:
        cache.fill(device=device)  # in turn, under a lock: a barrier would end the run after two hours
    ddp_barrier()
    return tuple(cache.read for cache in caches)


def stand_in(encoder: ExitEncoder) -> dict[str, nn.Module]:
    """Modules ``features`` and ``encoder`` that take cached states in place of audio."""
    return {"features": CachedFeatures(), "encoder": CachedEncoder(num_exits=len(encoder.exit_layers))}
