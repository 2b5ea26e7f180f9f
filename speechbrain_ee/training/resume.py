# SPDX-License-Identifier: Apache-2.0
"""Check that a run is resumed with the settings and utterances that it began with."""

import json
import os
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TextIO

import torch
from hyperpyyaml import resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.comments import TaggedScalar
from speechbrain.utils.checkpoints import Checkpoint

from ee_runtime.files import write_whole
from ee_runtime.text.error_units import WORD
from speechbrain_ee.corpora.manifest import Utterance, digest
from speechbrain_ee.training.earlier_yamls import REMOVED, open_yaml
from speechbrain_ee.training.hparams import WORKING_FOLDER
from speechbrain_ee.training.settings import is_path

# Settings that may change when a run is resumed: they do not affect what has been trained so far.
FREE_TO_CHANGE = {
    "alphabet",  # the run has its tokenizer
    "average_checkpoints",
    "cache_audio",
    "check_audio",
    "ckpt_interval_minutes",
    "ckpt_interval_steps",
    "init_share",
    "max_wer_increase",
    "num_workers",
    "number_of_epochs",
    "prepare",
    "tensorboard",
    "test_manifests",
}
# Locations of manifests: they may change if the run folder has a record of the utterances (`check_same_data`).
MANIFESTS = {"data_folder", "train_manifest", "valid_manifest"}
# Folders that may always change. Whether states are cached at all affects training and must not change.
PLACES = {"data_root", "state_cache"}
RUN_FOLDER = Path("/run folder")  # placeholder for the run folder in comparisons of paths
DATA_FILE = "data.json"


def check_same_run(folder: str | Path, path: str, settings: dict | None = None) -> None:
    """Check that a run is resumed with its own settings; the run folder may have been moved.

    Arguments
    ---------
    folder : str | Path
        Run folder; without a checkpoint in it, all settings may change.
    path : str
        The yaml given on the command line.
    settings : dict | None
        Overrides given on the command line.

    Raises
    ------
    ValueError
        If settings other than :data:`FREE_TO_CHANGE` and :data:`PLACES` differ; names them. Manifests may differ only
        if the run has a record of its utterances.
    """
    folder = Path(folder)
    saved = folder / "hyperparams.yaml"
    if not saved.exists():
        return
    text = open_yaml(saved).read()
    started_in = re.search(f"^{re.escape(WORKING_FOLDER)}(.*)$", text, re.MULTILINE)
    before = _plain_settings(StringIO(text))
    with open_yaml(path) as file:
        now = _plain_settings(resolve_references(file, settings))
    there = _with_places(before, json.loads(started_in[1]) if started_in else os.getcwd())
    here = _with_places(now, os.getcwd())
    save_folder = there.get("save_folder", RUN_FOLDER / "save")
    if save_folder.is_relative_to(RUN_FOLDER):
        save_folder = folder / save_folder.relative_to(RUN_FOLDER)
    if not any(save_folder.glob("CKPT*")):
        return
    differing = sorted(
        key for key in before.keys() | now.keys() if before.get(key) != now.get(key) and there.get(key) != here.get(key)
    )
    free = FREE_TO_CHANGE | PLACES | (MANIFESTS if (folder / DATA_FILE).exists() else set())
    if (before.get("state_cache") is None) != (now.get("state_cache") is None):
        free = free - {"state_cache"}
    if None in (before.get("vocab_size"), now.get("vocab_size")):  # null is the size of the run's tokenizer
        free = free | {"vocab_size"}
    differing = [key for key in differing if key not in free]
    if differing:
        was = ", ".join(f"{key} was {before.get(key)!r}" for key in differing[:5])
        raise ValueError(
            f"{folder} contains a run with other settings ({was}{', ...' if len(differing) > 5 else ''}): "
            "give another --output_folder or the same settings, or remove the folder"
        )


def check_same_processes(checkpoint: Checkpoint | None, num_epochs: int) -> None:
    """Check that training is resumed on as many processes as it began with; a finished run needs only one.

    The batches of an epoch and the learning rates depend on the number of processes.

    Arguments
    ---------
    checkpoint : Checkpoint | None
        The newest checkpoint; it has a random state per process.
    num_epochs : int
        Number of epochs to train.

    Raises
    ------
    ValueError
        If the number differs and there are steps left to train.
    """
    if checkpoint is None or checkpoint.meta.get("epoch", 0) >= num_epochs:
        return
    before = 1 + len(list(checkpoint.path.glob("rng.ckpt.rank*")))
    now = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    if before != now:
        raise ValueError(
            f"{checkpoint.path} was saved with {before} processes, and this command has {now}: give the same number "
            f"(torchrun --nproc_per_node={before} on one machine), or another --output_folder"
        )


def check_same_data(folder: str | Path, sets: dict[str, Sequence[Utterance]], *, is_resumed: bool) -> None:
    """Check that a run is resumed with the same utterances; a new run writes a record of them.

    Arguments
    ---------
    folder : str | Path
        Run folder.
    sets : dict[str, Sequence[Utterance]]
        Utterances of ``train`` and ``dev``.
    is_resumed : bool
        Whether the run has a checkpoint.

    Raises
    ------
    ValueError
        If the ids, texts or order of a set have changed since the run began.

    Example
    -------
    >>> folder, one = getfixture("tmp_path"), Utterance("a", Path("a.wav"), 1.5, "the cat")
    >>> check_same_data(folder, {"train": [one]}, is_resumed=False)
    >>> check_same_data(folder, {"train": [one, one]}, is_resumed=True)
    Traceback (most recent call last):
    ValueError: the train set has other utterances than when ... began (2 now, 1 then): give the same, or another ...
    """
    file = Path(folder) / DATA_FILE
    now = {name: {"utterances": len(utterances), "digest": digest(utterances)} for name, utterances in sets.items()}
    if not is_resumed or not file.exists():
        write_whole(file, json.dumps(now).encode())
        return
    for name, before in json.loads(file.read_text("utf-8")).items():
        if now.get(name) != before:
            raise ValueError(
                f"the {name} set has other utterances than when {folder} began ({now[name]['utterances']} now, "
                f"{before['utterances']} then): give the same, or another --output_folder"
            )


def _plain_settings(yaml: TextIO) -> dict:
    """Return top-level keys whose values are numbers, strings or lists, and not objects."""
    values = {"error_unit": WORD.name} | YAML(typ="rt").load(yaml)  # earlier versions counted words only
    is_object = {key: hasattr(value, "items") or isinstance(value, TaggedScalar) for key, value in values.items()}
    plain = {key: value for key, value in values.items() if not is_object[key] and "!" not in str(key)}
    return {key: _without_paths(value) for key, value in plain.items() if key not in REMOVED or value != REMOVED[key]}


def _without_paths(value: object) -> object:
    """Remove paths from nested values; paths are separate settings and compared as paths."""
    if isinstance(value, dict):
        return {key: _without_paths(one) for key, one in value.items() if not is_path(key)}
    return [_without_paths(one) for one in value] if isinstance(value, list) else value


def _with_places(settings: dict, working_folder: str) -> dict:
    """Make paths absolute; paths inside the run folder become relative to the placeholder :data:`RUN_FOLDER`."""
    run = _absolute(working_folder, settings.get("output_folder", RUN_FOLDER))
    paths = {
        key: _absolute(working_folder, value)
        for key, value in settings.items()
        if is_path(key) and isinstance(value, str)
    }
    inside = {key: RUN_FOLDER / path.relative_to(run) for key, path in paths.items() if path.is_relative_to(run)}
    return settings | paths | inside


def _absolute(working_folder: str, path: str | Path) -> Path:
    return Path(os.path.normpath(Path(working_folder) / path))
