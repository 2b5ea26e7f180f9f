# SPDX-License-Identifier: Apache-2.0
"""Load HyperPyYAML files with overrides of the command line, and check their settings."""

import json
import logging
import os
from datetime import date
from pathlib import Path
from timeit import repeat

import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAMLError
from speechbrain.utils.distributed import infer_device
from torch.nn.functional import linear

from ee_runtime.files import write_whole
from ee_runtime.text.error_units import WORD, error_unit
from speechbrain_ee.errors import Problems
from speechbrain_ee.text.tokenizer import MODEL_TYPES
from speechbrain_ee.training.earlier_yamls import in_todays_form, open_yaml
from speechbrain_ee.training.schedulers import SCHEDULES

WORKING_FOLDER = "# in the folder "

logger = logging.getLogger(__name__)


def load_hparams(path: str, settings: dict | None = None) -> dict:
    """Load a HyperPyYAML file and build the objects in it; use it only for trusted files.

    Arguments
    ---------
    path : str
        The file.
    settings : dict | None
        Overrides of top-level keys, as returned by
        :func:`~speechbrain_ee.training.command_line.parse_arguments`.

    Returns
    -------
    dict
        The hyperparameters.

    Raises
    ------
    ValueError
        If a key is unknown, the file is not valid YAML, a class does not accept its arguments, or the yaml of an
        earlier version has another blank than the tokenizer.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("lr: 0.1")
    >>> load_hparams(path, {"lr": 0.2})
    {'lr': 0.2}
    >>> load_hparams(path, {"rate": 0.2})
    Traceback (most recent call last):
    ValueError: Override 'rate' not found in: ['lr']
    """
    with open_yaml(path) as file:
        try:
            return in_todays_form(load_hyperpyyaml(file, settings), path)
        except (KeyError, TypeError) as error:
            raise ValueError(": ".join(map(str, error.args))) from error
        except ArithmeticError as error:
            reason = f"a value with <...> was read as arithmetic ({error})"
            raise ValueError(f"{path}: {reason}: give ./ before a path") from error
        except YAMLError as error:
            reason = getattr(error, "problem", None) or str(error)
            raise ValueError(f"{path} and the options of the command: {reason}") from error


def write_hparams(folder: str | Path, path: str, settings: dict | None = None) -> None:
    """Write ``hyperparams.yaml`` as SpeechBrain does, but atomically.

    :func:`~speechbrain_ee.training.resume.check_same_run` reads it: with an incomplete file, the command that resumes
    the run would be refused.

    Arguments
    ---------
    folder : str | Path
        Run folder; created if it does not exist.
    path : str
        The yaml given on the command line.
    settings : dict | None
        Overrides given on the command line.
    """
    with open_yaml(path) as file:
        resolved = resolve_references(file, settings).read()
    head = f"# Generated {date.today()} from:\n# {Path(path).absolute()}\n{WORKING_FOLDER}{json.dumps(os.getcwd())}\n"
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_whole(Path(folder) / "hyperparams.yaml", (head + "# yamllint disable\n" + resolved).encode())


def check_settings(hparams: dict, run_opts) -> None:
    """Check everything about the settings that needs no data; one error names all problems.

    Arguments
    ---------
    hparams : dict
        The hyperparameters.
    run_opts : RunOptions
        SpeechBrain's run options.

    Raises
    ------
    ValueError
        If a setting has an invalid value, contradicts another one, or does not suit the device.
    """
    problems = Problems()
    for check in (_check_unit, _check_tokens, _check_shares, _check_last_exit, _check_schedule):
        with problems.check():
            check(hparams)
    for name, precision in {"precision": hparams["precision"], "eval_precision": run_opts.eval_precision}.items():
        with problems.check():
            _check_precision(name, precision, run_opts)
    problems.raise_all()


def _check_unit(hparams: dict) -> None:
    error_unit(hparams.get("error_unit", WORD.name))


def _check_tokens(hparams: dict) -> None:
    kind, size = hparams["token_type"], hparams["vocab_size"]
    if kind not in MODEL_TYPES:
        raise ValueError(f"token_type is {kind!r}: choose from {', '.join(MODEL_TYPES)}")
    if kind != "char" and size is None and not Path(hparams["tokenizer_file"]).exists():
        raise ValueError(f"token_type {kind} needs a number of tokens: give --vocab_size 256, or --token_type char")


def _check_shares(hparams: dict) -> None:
    if not 0 <= (share := hparams["init_share"]) < 1:
        raise ValueError(f"init_share is {share}: give a number in [0, 1); 0 keeps only the trained weights")
    if share > 0 and hparams["init_from"] is None:
        raise ValueError(f"init_share {share} needs the weights of init_from: give --init_from")


def _check_last_exit(hparams: dict) -> None:
    if hparams["loss"].weights[-1] > 0:
        return
    if hparams["select"] == "last":
        raise ValueError("select: last ranks checkpoints by the last exit, whose loss weight is 0: give --select mean")
    if hparams["loss"].distillation > 0 and hparams["init_from"] is None:
        raise ValueError(
            "distillation needs a trained last exit, whose loss weight is 0: raise the weight, or give --init_from"
        )


def _check_schedule(hparams: dict) -> None:
    """Check the schedule's settings; a yaml of one's own may have another schedule."""
    kind, warmup_steps = (hparams.get(key, default) for key, default in (("lr_schedule", "noam"), ("warmup_steps", 1)))
    if kind not in SCHEDULES:
        raise ValueError(f"lr_schedule is {kind!r}: choose from {', '.join(SCHEDULES)}")
    if warmup_steps < 1:
        raise ValueError(f"warmup_steps is {warmup_steps}: give at least 1")
    if (factor := hparams.get("grad_accumulation_factor", 1)) < 1:
        raise ValueError(f"grad_accumulation_factor={factor}: give 1 or more")


def _check_precision(name: str, precision: str | None, run_opts) -> None:
    if (run_opts.device or infer_device()) != "cpu":
        return
    if precision == "fp16" or (name == "precision" and run_opts.auto_mix_prec):
        raise ValueError(f"{name} fp16 needs a GPU, but the device is a CPU: give --{name} bf16 or fp32")


def warn_of_slow_bf16(precision: str | None, run_opts) -> None:
    """Warn if training in bf16 is slower than in fp32, as on a CPU that emulates it."""
    if precision != "bf16" or (run_opts.device or infer_device()) != "cpu":
        return
    if (times := bf16_slowdown()) > 2:
        logger.warning(
            "precision bf16: a matrix product takes %.0f times as long as fp32 here: give --precision fp32", times
        )


def bf16_slowdown() -> float:
    """Measure how many times as long as in fp32 a matrix product takes in bf16, which not every CPU has."""
    seconds = []
    for dtype in (torch.bfloat16, torch.float32):
        matrix = torch.ones(256, 256, dtype=dtype)
        seconds.append(min(repeat(lambda matrix=matrix: linear(matrix, matrix), number=1, repeat=5)))
    return seconds[0] / seconds[1]
