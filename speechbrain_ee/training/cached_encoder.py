# SPDX-License-Identifier: Apache-2.0
"""Train only the heads, on cached encoder states in place of audio."""

import shutil
from collections.abc import Callable, Sequence

import torch
from speechbrain.utils.distributed import ddp_barrier
from torch import nn

from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.lobes.encoder import ExitEncoder
from speechbrain_ee.training.state_cache import StateCache


def check_room(caches: Sequence[StateCache]) -> None:
    """Check that the disk has room for the states that are still to be computed.

    Raises
    ------
    OSError
        If it does not; the message gives the needed and the free size.
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
    """Stands in for the features: passes states from a :class:`StateCache` through."""

    def forward(self, states: torch.Tensor, num_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return states (batch, frames, exits * d_model) and lengths unchanged."""
        return states, num_frames


class CachedEncoder(nn.Module):
    """Stands in for a frozen encoder: splits states from a :class:`StateCache` into those of each exit.

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
        """Split (batch, frames, exits * d_model) into one (batch, frames, d_model) per exit; lengths are unchanged."""
        return list(states.float().chunk(self.num_exits, dim=2)), num_frames


def cache_states(hparams: dict, device: str, *sets: list[Utterance]) -> tuple[Callable, ...]:
    """Compute the states of a frozen encoder once, and return functions that read them.

    Arguments
    ---------
    hparams : dict
        Uses ``state_cache``, ``freezing``, ``features`` and ``encoder``.
    device : str
        Device to compute on.
    *sets : list of Utterance
        One cache is made per set.

    Returns
    -------
    tuple of callable
        For each set, returns the states of an utterance, (frames, exits * d_model), by its id.

    Raises
    ------
    ValueError
        If the encoder is not fully frozen, or a state exceeds the range of half precision.
    OSError
        If the disk has not enough room.
    """
    if not hparams["freezing"].always_all:
        raise ValueError("state_cache needs a frozen encoder: give --freeze encoder and no --unfreeze")
    features, encoder = hparams["features"], hparams["encoder"]
    caches = [StateCache(hparams["state_cache"], utterances, features, encoder) for utterances in sets]
    check_room(caches)
    for cache in caches:
        cache.fill(device=device)  # one process at a time, under a lock: a barrier would time out after two hours
    ddp_barrier()
    return tuple(cache.read for cache in caches)


def stand_in(encoder: ExitEncoder) -> dict[str, nn.Module]:
    """Return modules ``features`` and ``encoder`` that take cached states in place of audio."""
    return {"features": CachedFeatures(), "encoder": CachedEncoder(num_exits=len(encoder.exit_layers))}
