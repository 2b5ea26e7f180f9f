# SPDX-License-Identifier: Apache-2.0
"""Random numbers that go on where a checkpoint was saved."""

import random
from pathlib import Path

import numpy as np
import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.distributed import get_rank, if_main_process
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)


class RNGState:
    """Recoverable for the state of every global random number generator of this process.

    Python, NumPy, torch on the CPU and on each CUDA device. With it, training that resumes draws
    the same numbers as if it had never stopped. Each rank has a file of its own. Only for
    resuming: evaluation has no use for it.

    A ``DataLoader`` draws a number each time it is iterated. In the middle of an epoch, a resumed
    one has been iterated once more than one that never stopped: give it its own ``generator``.

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
        """Write the generators' states; every rank calls this and writes a file of its own."""
        torch.save(_rng_states(), _rank_path(path))

    @mark_as_loader
    def load(self, path: str | Path, end_of_epoch: bool) -> None:
        """Restore the generators' states exactly, or warn of what cannot be restored."""
        del end_of_epoch
        path = _rank_path(path)
        if not path.exists():
            logger.warning(
                f"No random state for rank {get_rank()} in {path.parent}: it was saved with fewer "
                "processes, so this run will differ from an uninterrupted one",
                main_process_only=False,
            )
            return
        _restore_rng_states(torch.load(path, map_location="cpu", weights_only=True))


# Not as a decorator: by default SpeechBrain runs a saver on the main process only.
register_checkpoint_hooks(RNGState, save_on_main_only=False)


def _rank_path(path: str | Path) -> Path:
    """Give each rank its file; the suffix keeps SpeechBrain from taking it for a recoverable."""
    path = Path(path)
    return path if if_main_process() else path.with_name(f"{path.name}.rank{get_rank()}")


def _rng_states() -> dict:
    version, words, gauss = random.getstate()
    kind, np_words, *np_rest = np.random.get_state()
    # Asking for a CUDA state would start CUDA in a run that is on the CPU.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    # Plain numbers and tensors only, so that loading them runs nobody's code.
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
            f"The random state is of {len(states['cuda'])} CUDA devices and {num_devices} are "
            "here: this run will differ from an uninterrupted one"
        )
    for device, state in enumerate(states["cuda"][:num_devices]):
        torch.cuda.set_rng_state(state, device)
