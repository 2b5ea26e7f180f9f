# SPDX-License-Identifier: Apache-2.0
"""Save and restore the states of random number generators in checkpoints."""

import random
from pathlib import Path

import numpy as np
import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.distributed import get_rank, if_main_process
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)


class RNGState:
    """Recoverable for the states of all global random number generators of this process.

    It covers Python, NumPy, and torch on the CPU and on each CUDA device. Resumed training then draws the same numbers
    as uninterrupted training. Each rank has its own file.

    A ``DataLoader`` draws a random number whenever it is iterated, and a loader that is resumed within an epoch is
    iterated once more than usual. Give the loader its own ``generator``.

    Example
    -------
    >>> path = getfixture("tmp_path") / "rng.ckpt"
    >>> rng = RNGState()
    >>> rng.save(path)
    >>> before = torch.rand(3)
    >>> rng.load(path, end_of_epoch=True)
    >>> torch.equal(torch.rand(3), before)
    True
    """

    @mark_as_saver
    def save(self, path: str | Path) -> None:
        """Write the generators' states; every rank calls this and writes its own file."""
        torch.save(_rng_states(), _rank_path(path))

    @mark_as_loader
    def load(self, path: str | Path, end_of_epoch: bool) -> None:
        """Restore the generators' states, or warn about states that cannot be restored."""
        del end_of_epoch
        path = _rank_path(path)
        if not path.exists():
            logger.warning(
                f"No random state for rank {get_rank()} in {path.parent}: it was saved with fewer "
                "processes, and this run will differ from an uninterrupted one",
                main_process_only=False,
            )
            return
        _restore_rng_states(torch.load(path, map_location="cpu", weights_only=True))


# Not a decorator, because SpeechBrain would then call the saver only on the main process.
register_checkpoint_hooks(RNGState, save_on_main_only=False)


def _rank_path(path: str | Path) -> Path:
    """Return the file of this rank; SpeechBrain ignores files with this suffix."""
    path = Path(path)
    return path if if_main_process() else path.with_name(f"{path.name}.rank{get_rank()}")


def _rng_states() -> dict:
    version, words, gauss = random.getstate()
    kind, np_words, *np_rest = np.random.get_state()
    # Reading a CUDA state would initialise CUDA in a run on the CPU.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    # Only numbers and tensors, which can be loaded with weights_only=True.
    return {
        "python": (version, torch.tensor(words), gauss),
        "numpy": (kind, torch.from_numpy(np_words.astype(np.int64)), *np_rest),
        "torch": torch.get_rng_state(),
        "cuda": list(cuda),
    }


def _restore_rng_states(states: dict) -> None:
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    kind, np_words, *rest = states["numpy"]
    np.random.set_state((kind, np_words.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    num_devices = torch.cuda.device_count()
    if len(states["cuda"]) > num_devices:
        logger.warning(
            f"The random state was saved for {len(states['cuda'])} CUDA devices, but there are "
            f"{num_devices}: this run will differ from an uninterrupted one"
        )
    for device, state in enumerate(states["cuda"][:num_devices]):
        torch.cuda.set_rng_state(state, device)
