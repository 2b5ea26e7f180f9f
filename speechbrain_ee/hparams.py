# SPDX-License-Identifier: Apache-2.0
"""HyperPyYAML files with options of the command line, and what is wrong with either in one line."""

from collections.abc import Sequence
from datetime import date
from numbers import Real
from pathlib import Path
from typing import TextIO

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import TaggedScalar
from speechbrain.utils.run_opts import RunOptions

from speechbrain_ee.files import write_whole
from speechbrain_ee.tokenizer import BLANK_INDEX

# What may differ between a run and the command that goes on with it: none of it changes what has been trained so far.
FREE_TO_CHANGE = {
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

# Settings that earlier versions had, and the value that has the same effect as no setting.
REMOVED = {"blank_index": BLANK_INDEX}

# SpeechBrain's run options that our Brain does not follow: a loss that is no number stops the training at once.
NOT_FOLLOWED = {"skip_nonfinite_grads", "nonfinite_patience"}


def parse_arguments(argv: Sequence[str]) -> tuple[str, RunOptions, str]:
    """Read a command line as SpeechBrain does; a run option that is a key of the yaml becomes an override of it.

    So every setting that the yaml names has one value, which is written down with the run and compared when it is
    resumed.

    Arguments
    ---------
    argv : Sequence[str]
        The arguments after the script's name.

    Returns
    -------
    tuple[str, RunOptions, str]
        The yaml's path, SpeechBrain's run options, and what replaces top-level keys of the yaml, as YAML.

    Raises
    ------
    ValueError
        If an option is one that has no effect here.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("max_grad_norm: 5.0")
    >>> _, run_opts, overrides = parse_arguments([str(path), "--max_grad_norm", "1", "--device", "cpu"])
    >>> overrides, run_opts.device
    ('max_grad_norm: 1.0', 'cpu')
    """
    path, run_opts, overrides = RunOptions.from_command_line_args(argv)
    for name in sorted(NOT_FOLLOWED & run_opts.overridden_args):
        raise ValueError(f"--{name} has no effect: training stops where a loss or gradient is no number; leave it away")
    with open(path, encoding="utf-8") as file:
        shared = _top_level_keys(file) & run_opts.overridden_args
    lines = [overrides] if overrides else []
    lines += [f"{name}: {run_opts[name]}" for name in sorted(shared)]
    return path, run_opts, "\n".join(lines)


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
        If an option is unknown, given twice or no number where the yaml has one, the file is no YAML, or a class does
        not take what it is given.

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
            _check_numbers(file, overrides)
            file.seek(0)
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
    if not saved.exists():
        return
    with open(saved, encoding="utf-8") as file:
        before = _plain_settings(file)
    before = {key: value for key, value in before.items() if key not in REMOVED or value != REMOVED[key]}
    with open(path, encoding="utf-8") as file:
        now = _plain_settings(resolve_references(file, overrides))
    if not any(Path(before.get("save_folder", Path(folder) / "save")).glob("CKPT*")):
        return
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
    """Top-level keys whose values are numbers, texts or lists of them, and no objects."""
    values = YAML(typ="rt").load(yaml)
    is_object = {key: hasattr(value, "items") or isinstance(value, TaggedScalar) for key, value in values.items()}
    return {key: value for key, value in values.items() if not is_object[key] and "!" not in str(key)}


def _top_level_keys(yaml: TextIO) -> set[str]:
    return set(YAML(typ="rt").load(yaml))


def _check_numbers(yaml: TextIO, overrides: str) -> None:
    """Refuse a text where the yaml has a number; it would fail in the middle of something."""
    defaults = YAML(typ="rt").load(yaml)
    for key, value in (YAML(typ="rt").load(overrides) or {}).items():
        if isinstance(defaults.get(key), Real) and isinstance(value, str | list):
            kind = "True or False" if isinstance(defaults[key], bool) else f"a number ({defaults[key]} by default)"
            raise ValueError(f"--{key} {value}: give {kind}")
