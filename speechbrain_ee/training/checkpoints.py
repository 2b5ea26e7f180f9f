# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive a kill, a full disk and Ctrl-C."""

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

# SpeechBrain takes every folder that starts with CKPT for a checkpoint; these it does not see.
SAVING = "saving+"  # not all files are written yet
REPLACED = "replaced+"  # whole, makes room for a new one of the same name
DELETING = "deleting+"  # some files may be gone already


class AtomicCheckpointer(Checkpointer):
    """SpeechBrain's Checkpointer, with checkpoints that are there as a whole or not at all.

    A checkpoint is written under a name that SpeechBrain does not take for a checkpoint, flushed
    to the disk and then renamed; one to be deleted is renamed first. Whatever kills the process,
    every checkpoint that is found can be loaded. What a killed process left behind is removed when
    the next one starts; construct it on every rank, as SpeechBrain's recipes do.

    Modules load through ``load_strict``: an exit head that the checkpoint lacks is named.

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
        """Save a checkpoint; until it is whole, or if it fails, only the earlier ones count.

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
            If the disk, or the user's share of it, is full.
        """
        try:
            with _folder_lock(self.checkpoints_dir):
                partial = super().save_checkpoint(meta or {}, end_of_epoch, name, logging.DEBUG)
                ddp_barrier()  # every rank has written its files
                saved = self._publish(partial) if partial is not None else None
                ddp_barrier()  # every rank sees the new name
        except BaseException as error:
            # Asked first: removing the partial folder makes room again.
            full = is_disk_full(error, self.checkpoints_dir)
            if if_main_process():
                self._remove_partial()
            if full:
                raise CheckpointError(
                    f"cannot save a checkpoint in {self.checkpoints_dir}: no space left on the "
                    "disk; the earlier checkpoints are unharmed: free some space and run the "
                    "same command again, it resumes from the newest one"
                ) from error
            raise
        if saved is not None:
            logger.log(verbosity, f"Saved a checkpoint in {saved.path}")
        return saved

    def save_and_keep_only(self, *args, importance_keys: Iterable[Callable] = (), **kwargs):
        """Save a checkpoint, then delete the least important ones; arguments as SpeechBrain's."""
        # SpeechBrain appends to the list that it is given, and to its own default.
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
        """Delete all but the ``num_to_keep`` best by each key; arguments as SpeechBrain's.

        SpeechBrain's own method names its class where it deletes: a subclass repeats the choice.
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
        ddp_barrier()  # every rank has listed them
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
        # A data loader's file is absent after an epoch's end: SpeechBrain skips it, and so do we.
        optional = self.allow_partial_load or self.optional_recoverables.get(name, False)
        return name not in checkpoint.paramfiles and not optional and "dataloader" not in name

    def _new_checkpoint_dirpath(self) -> Path:
        path = super()._new_checkpoint_dirpath()
        return path.with_name(SAVING + path.name)

    def _custom_checkpoint_dirpath(self, name: str) -> Path:
        path = super()._custom_checkpoint_dirpath(name)
        return path.with_name(SAVING + path.name)

    def _publish(self, partial: Checkpoint) -> Checkpoint:
        """Flush the files, then give their folder the name that SpeechBrain looks for."""
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
                os.rename(path, final)  # its successor never arrived
            else:
                shutil.rmtree(path, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """Remove what an earlier, killed process left, unless another one is saving just now."""
        leftovers = self._leftovers()
        if not leftovers:
            return  # writes nothing: a finished run may lie on a read-only disk
        names = ", ".join(path.name for path in leftovers)
        try:
            with _folder_lock(self.checkpoints_dir) as held:
                if not held:
                    return
                self._remove_partial()
        except OSError as error:
            logger.warning(f"Cannot remove {names} from {self.checkpoints_dir}: {error}")
        else:
            logger.info(f"Cleared up what a killed run left in {self.checkpoints_dir}: {names}")


def _recover_strict(obj: torch.nn.Module, path: Path, end_of_epoch: bool) -> None:
    """Load hook for modules in place of SpeechBrain's, whose message is torch's many lines."""
    del end_of_epoch
    state_dict = sb_checkpoints.torch_patched_state_dict_load(path)
    load_strict(obj, state_dict, what=f"the checkpoint {path}")


def _delete(path: Path) -> None:
    """Remove a checkpoint's folder under a name that is no checkpoint's."""
    doomed = path.with_name(DELETING + path.name)
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    # What cannot be removed now counts for nothing and is tried again at the next start.
    shutil.rmtree(doomed, ignore_errors=True)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[bool]:
    """Say whether nobody else is saving here; the kernel frees the lock of a killed process."""
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
            held = True  # a network disk without locks: as if we were alone
        yield held
