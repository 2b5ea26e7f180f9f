# SPDX-License-Identifier: Apache-2.0
"""HyperPyYAML files with options of the command line, and what is wrong with either in one line."""

from datetime import date
from pathlib import Path
from typing import TextIO

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML, YAMLError

from speechbrain_ee.files import write_whole

# What may differ between a run and the command that goes on with it: none of it changes what has been trained so far.
FREE_TO_CHANGE = {
    "average_checkpoints",
    "cache_audio",
    "check_audio",
    "ckpt_interval_minutes",
    "ckpt_interval_steps",
    "max_wer_increase",
    "num_workers",
    "number_of_epochs",
    "prepare",
    "tensorboard",
    "test_manifests",
}


def load_hparams(path: str, overrides: str = "") -> dict:
    """Load a HyperPyYAML file, which builds every object in it: only for files that are trusted.

    Arguments
    ---------
    path : str
        The file.
    overrides : str
        YAML that replaces top-level keys, as SpeechBrain makes it from the command line.

    Returns
    -------
    dict
        The hyperparameters.

    Raises
    ------
    ValueError
        If an option is unknown or given twice, the file is no YAML, or a class does not take what it is given.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("lr: 0.1")
    >>> load_hparams(path, "lr: 0.2")
    {'lr': 0.2}
    >>> load_hparams(path, "rate: 0.2")
    Traceback (most recent call last):
    ValueError: Override 'rate' not found in: ['lr']
    """
    with open(path, encoding="utf-8") as file:
        try:
            return load_hyperpyyaml(file, overrides)
        except (KeyError, TypeError) as error:
            raise ValueError(": ".join(map(str, error.args))) from error
        except YAMLError as error:
            reason = getattr(error, "problem", None) or str(error)
            raise ValueError(f"{path} and the options of the command: {reason}") from error


def check_same_run(folder: str | Path, path: str, overrides: str = "") -> None:
    """Refuse to go on with a run under other settings.

    Arguments
    ---------
    folder : str | Path
        The run folder; where it holds no checkpoint, anything goes.
    path : str
        The yaml of the command.
    overrides : str
        Its options.

    Raises
    ------
    ValueError
        If the run was started with other settings than those in :data:`FREE_TO_CHANGE`; names them.
    """
    saved = Path(folder) / "hyperparams.yaml"
    if not saved.exists() or not any(Path(folder).glob("save/CKPT*")):
        return
    with open(saved, encoding="utf-8") as file:
        before = _plain_settings(file)
    with open(path, encoding="utf-8") as file:
        now = _plain_settings(resolve_references(file, overrides))
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    differing = [key for key in differing if key not in FREE_TO_CHANGE]
    if differing:
        was = ", ".join(f"{key} was {before.get(key)!r}" for key in differing[:5])
        raise ValueError(
            f"{folder} holds a run with other settings ({was}{', ...' if len(differing) > 5 else ''}): "
            "give another --output_folder, the same settings, or remove the folder"
        )


def write_hparams(folder: str | Path, path: str, overrides: str = "") -> None:
    """Write ``hyperparams.yaml`` as SpeechBrain does, but whole or not at all.

    :func:`check_same_run` reads it: half a file, from a kill or while another process writes it, would refuse the very
    command that resumes the run.

    Arguments
    ---------
    folder : str | Path
        The run folder, made if missing.
    path : str
        The yaml of the command.
    overrides : str
        Its options.
    """
    with open(path, encoding="utf-8") as file:
        resolved = resolve_references(file, overrides).read()
    head = f"# Generated {date.today()} from:\n# {Path(path).absolute()}\n# yamllint disable\n"
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_whole(Path(folder) / "hyperparams.yaml", (head + resolved).encode())


def _plain_settings(yaml: TextIO) -> dict:
    """Top-level keys whose values are numbers, texts or lists of them."""
    values = YAML(typ="rt").load(yaml)
    return {key: value for key, value in values.items() if not hasattr(value, "items") and "!" not in str(key)}
