# SPDX-License-Identifier: Apache-2.0
"""Atomic checkpoints: a kill, a full disk or Ctrl-C never leaves a broken one."""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from speechbrain.utils import checkpoints as sb_checkpoints
from speechbrain.utils.checkpoints import Checkpoint, Checkpointer, ckpt_recency
from speechbrain.utils.distributed import ddp_barrier, if_main_process, main_process_only
from speechbrain.utils.logger import get_logger

from speechbrain_ee.errors import CheckpointError
from speechbrain_ee.files import fsync, is_disk_full
from speechbrain_ee.lobes.state_dicts import first_names, load_strict

try:
    import fcntl
except ImportError:  # Windows: no lock, see _folder_lock
    fcntl = None

logger = get_logger(__name__)

# SpeechBrain treats every folder whose name starts with CKPT as a checkpoint; it ignores these prefixes.
SAVING = "saving+"  # still being written
REPLACED = "replaced+"  # complete, about to be replaced by a new one of the same name
DELETING = "deleting+"  # being deleted


class AtomicCheckpointer(Checkpointer):
    """SpeechBrain's Checkpointer with atomic saving.

    A checkpoint is written under a temporary name that SpeechBrain ignores, flushed to the disk, and then renamed.
    Before deletion it is renamed back. Every checkpoint that is found is therefore complete, even if the process was
    killed at any moment. Leftovers of a killed process are removed when the next one starts. Construct it on every
    rank, as SpeechBrain's recipes do.

    Modules are loaded by ``load_strict``: the error names an exit head that the checkpoint lacks.

    Arguments
    ---------
    *args, **kwargs
        As for ``speechbrain.utils.checkpoints.Checkpointer``.

    Example
    -------
    >>> model = torch.nn.Linear(2, 2)
    >>> checkpointer = AtomicCheckpointer(getfixture("tmp_path"), {"model": model})
    >>> saved = checkpointer.save_checkpoint(name="first")
    >>> saved.path.name, sorted(path.name for path in saved.path.iterdir())
    ('CKPT+first', ['CKPT.yaml', 'model.ckpt'])
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        main_process_only(self._remove_leftovers)()

    def save_checkpoint(
        self,
        meta: Mapping | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        verbosity: int = logging.INFO,
    ) -> Checkpoint | None:
        """Save a checkpoint; if saving fails, earlier checkpoints are unaffected.

        Arguments
        ---------
        meta, end_of_epoch, name, verbosity
            As for ``Checkpointer.save_checkpoint``. A checkpoint of the same ``name`` is replaced.

        Returns
        -------
        The saved checkpoint; None on any process but the main one.

        Raises
        ------
        CheckpointError
            If the disk or the user's quota is full.
        """
        try:
            with _folder_lock(self.checkpoints_dir):
                partial = super().save_checkpoint(meta or {}, end_of_epoch, name, logging.DEBUG)
                ddp_barrier()  # every rank has written its files
                saved = self._publish(partial) if partial is not None else None
                ddp_barrier()  # every rank sees the new name
        except BaseException as error:
            # Must be checked before the partial folder is removed, which frees space.
            full = is_disk_full(error, self.checkpoints_dir)
            if if_main_process():
                self._remove_partial()
            if full:
                raise CheckpointError(
                    f"cannot save a checkpoint in {self.checkpoints_dir}: no space left on the "
                    "disk; earlier checkpoints are unaffected: free some space and run the "
                    "same command again to resume from the newest one"
                ) from error
            raise
        if saved is not None:
            logger.log(verbosity, f"Saved a checkpoint in {saved.path}")
        return saved

    def save_and_keep_only(self, *args, importance_keys: Iterable[Callable] = (), **kwargs):
        """Save a checkpoint, then delete the least important ones; same arguments as in SpeechBrain."""
        # SpeechBrain modifies the list that it is given, and its own default.
        super().save_and_keep_only(*args, importance_keys=list(importance_keys), **kwargs)

    def delete_checkpoints(
        self,
        *,
        num_to_keep: int = 1,
        min_keys: Iterable[str] | None = None,
        max_keys: Iterable[str] | None = None,
        importance_keys: Iterable[Callable] = (ckpt_recency,),
        ckpt_predicate: Callable | None = None,
        verbosity: int = logging.INFO,
    ) -> None:
        """Delete all but the ``num_to_keep`` best checkpoints by each key; same arguments as in SpeechBrain.

        SpeechBrain's method calls a function of its own class to delete, so this class repeats the selection.
        """
        if num_to_keep < 0:
            raise ValueError(f"num_to_keep is {num_to_keep}: give 0 or more")
        keys = [{"min_key": key} for key in min_keys or ()]
        keys += [{"max_key": key} for key in max_keys or ()]
        keys += [{"importance_key": key} for key in importance_keys]
        found, kept = {}, set()
        for key in keys:
            ranked = self.find_checkpoints(ckpt_predicate=ckpt_predicate, **key)
            found.update({ckpt.path: ckpt for ckpt in ranked})
            kept.update(ckpt.path for ckpt in ranked[:num_to_keep])
        ddp_barrier()  # every rank has listed the checkpoints
        if if_main_process():
            for path in found.keys() - kept:
                _delete(path)
                logger.log(verbosity, f"Deleted checkpoint in {path}")
        ddp_barrier()

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint into the recoverables, modules by ``load_strict``.

        Arguments
        ---------
        checkpoint : Checkpoint
            Checkpoint to load.

        Raises
        ------
        CheckpointError
            If a recoverable's file is missing, or if a module's state does not fit it.
        """
        missing = [name for name in self.recoverables if self._is_missing(name, checkpoint)]
        if missing:
            raise CheckpointError(
                f"the checkpoint {checkpoint.path} lacks {first_names(missing)}: "
                "remove that folder to resume from an earlier one, or train anew"
            )
        for name, obj in self.recoverables.items():
            hook = sb_checkpoints.get_default_hook(obj, sb_checkpoints.DEFAULT_LOAD_HOOKS)
            if isinstance(obj, torch.nn.Module) and hook is sb_checkpoints.torch_recovery:
                self.custom_load_hooks.setdefault(name, _recover_strict)
        super().load_checkpoint(checkpoint)

    def _is_missing(self, name: str, checkpoint: Checkpoint) -> bool:
        # SpeechBrain saves no file for a data loader at the end of an epoch.
        optional = self.allow_partial_load or self.optional_recoverables.get(name, False)
        return name not in checkpoint.paramfiles and not optional and "dataloader" not in name

    def _new_checkpoint_dirpath(self) -> Path:
        path = super()._new_checkpoint_dirpath()
        return path.with_name(SAVING + path.name)

    def _custom_checkpoint_dirpath(self, name: str) -> Path:
        path = super()._custom_checkpoint_dirpath(name)
        return path.with_name(SAVING + path.name)

    def _publish(self, partial: Checkpoint) -> Checkpoint:
        """Flush the files to the disk, then rename their folder to its final name."""
        final = partial.path.with_name(partial.path.name.removeprefix(SAVING))
        replaced = final.with_name(REPLACED + final.name)
        for folder, _, files in os.walk(partial.path):
            for name in files:
                fsync(Path(folder, name))
            fsync(folder)
        if final.exists():
            os.rename(final, replaced)
        os.rename(partial.path, final)
        fsync(self.checkpoints_dir)
        if replaced.exists():
            _delete(replaced)
        paramfiles = {name: final / path.name for name, path in partial.paramfiles.items()}
        return Checkpoint(final, partial.meta, paramfiles)

    def _leftovers(self) -> list[Path]:
        prefixes = (SAVING, REPLACED, DELETING)
        return sorted(p for p in self.checkpoints_dir.iterdir() if p.name.startswith(prefixes))

    def _remove_partial(self) -> None:
        for path in self._leftovers():
            final = path.with_name(path.name.removeprefix(REPLACED))
            if path.name.startswith(REPLACED) and not final.exists():
                os.rename(path, final)  # the new checkpoint was not completed
            else:
                shutil.rmtree(path, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """Remove leftovers of a killed process, unless another process is saving at the moment."""
        leftovers = self._leftovers()
        if not leftovers:
            return  # without writing: a finished run may be on a read-only disk
        names = ", ".join(path.name for path in leftovers)
        try:
            with _folder_lock(self.checkpoints_dir) as held:
                if not held:
                    return
                self._remove_partial()
        except OSError as error:
            logger.warning(f"Cannot remove {names} from {self.checkpoints_dir}: {error}")
        else:
            logger.info(f"Removed incomplete checkpoints of an interrupted run from {self.checkpoints_dir}: {names}")


def _recover_strict(obj: torch.nn.Module, path: Path, end_of_epoch: bool) -> None:
    """Load hook for modules; its error is one line, unlike that of SpeechBrain's hook."""
    del end_of_epoch
    state_dict = sb_checkpoints.torch_patched_state_dict_load(path)
    load_strict(obj, state_dict, what=f"the checkpoint {path}")


def _delete(path: Path) -> None:
    """Rename a checkpoint's folder so that it is no longer found, then remove it."""
    doomed = path.with_name(DELETING + path.name)
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    # If removal fails, it is tried again at the next start.
    shutil.rmtree(doomed, ignore_errors=True)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[bool]:
    """Yield whether this process holds the lock for saving; the kernel releases the lock of a killed process."""
    if fcntl is None or not if_main_process():
        yield True
        return
    with open(folder / ".saving.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = False
        except OSError:
            held = True  # a network disk without locks
        yield held
