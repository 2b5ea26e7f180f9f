# SPDX-License-Identifier: Apache-2.0
"""The command line of a training script: a yaml file, SpeechBrain's run options, and overrides of yaml keys."""

import difflib
import math
import typing
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml import YAML, YAMLError
from speechbrain.utils.run_opts import HELP_TEXTS, RunOptions

from speechbrain_ee.training.settings import read_setting

# Run options that ExitBrain does not support: a non-finite loss stops the training at once.
NOT_FOLLOWED = {"skip_nonfinite_grads", "nonfinite_patience"}
AT_LEAST_ONE = {"debug_batches", "grad_accumulation_factor", "optimizer_step_limit", "profile_steps", "profile_warmup"}

_RUN_OPTION_TYPES = {
    name: hint
    for name, hint in typing.get_type_hints(RunOptions).items()
    if name in {*HELP_TEXTS, "jit_module_keys", "compile_module_keys"}
}


def parse_arguments(argv: Sequence[str]) -> tuple[str, RunOptions, dict]:
    r"""Parse a command line as SpeechBrain does; a run option that is also a yaml key overrides that key.

    Each setting in the yaml therefore has one value, which is saved with the run and compared when it is resumed.

    Arguments
    ---------
    argv : Sequence[str]
        Arguments after the script name.

    Returns
    -------
    tuple[str, RunOptions, dict]
        Path of the yaml, SpeechBrain's run options, and overrides of top-level yaml keys.

    Raises
    ------
    ValueError
        If there is no yaml, or an option is unknown, repeated, of a wrong type, or not supported.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("max_grad_norm: 5.0\nlayers: [1, 2]\noutput_folder: results")
    >>> options = ["--max_grad_norm", "1", "--device", "cpu", "--layers", "3", "--output_folder", "2024"]
    >>> _, run_opts, settings = parse_arguments([str(path), *options])
    >>> settings, run_opts.device
    ({'layers': [3], 'output_folder': '2024', 'max_grad_norm': 1.0}, 'cpu')
    """
    if {"-h", "--help"} & set(argv):
        RunOptions.from_command_line_args(["--help"])  # prints SpeechBrain's run options and ends the process
    path, given = _split(argv)
    for name in sorted(NOT_FOLLOWED & given.keys()):
        raise ValueError(
            f"--{name} is not supported: training stops at the first loss or gradient that is not finite; remove it"
        )
    defaults = _top_level(path)
    options = {name: _run_option(name, words) for name, words in given.items() if name in _RUN_OPTION_TYPES}
    settings = {}
    for name, words in given.items():
        if name not in _RUN_OPTION_TYPES:
            if name not in defaults:
                raise ValueError(f"--{name} is neither a key of {path} nor a run option{_did_you_mean(name, defaults)}")
            settings[name] = read_setting(name, words, defaults[name])
    settings |= {name: options[name] for name in sorted(defaults.keys() & options.keys())}
    return path, RunOptions.from_dictionary({"param_file": path, **options}), settings


def log_config(run_opts: RunOptions) -> dict:
    """Check ``--log_config`` and return it as an option of SpeechBrain's ``create_experiment_directory``.

    Raises
    ------
    ValueError
        If the file is missing or is not YAML.

    Example
    -------
    >>> log_config(RunOptions())
    {}
    """
    if run_opts.log_config is None:
        return {}
    if not Path(run_opts.log_config).is_file():
        raise ValueError(f"--log_config {run_opts.log_config} does not exist: check the path")
    _top_level(run_opts.log_config)
    return {"log_config": run_opts.log_config}


def _split(argv: Sequence[str]) -> tuple[str, dict[str, list[str]]]:
    """Return the yaml, and the words of each option up to the next option."""
    path, given, words = None, {}, list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            if path is not None:
                raise ValueError(f"{word!r} belongs to no option: give the yaml, then --key value; flags take no value")
            path = word
            continue
        name, equals, value = word[2:].partition("=")
        if name in given:
            raise ValueError(f"--{name} is given twice: give it once")
        count = 0 if equals else _num_words(name, words)
        given[name] = [value] if equals else words[:count]
        del words[:count]
    if path is None:
        raise ValueError("the first argument must be a yaml, such as hparams/conformer_ee.yaml; options follow it")
    return path, given


def _num_words(name: str, words: list[str]) -> int:
    """Return how many of the following words belong to an option."""
    until_option = next((number for number, word in enumerate(words) if word.startswith("--")), len(words))
    kind = _RUN_OPTION_TYPES.get(name)
    if kind is bool:
        return 0
    return until_option if kind is None or "keys" in name else min(1, until_option)


def _top_level(path: str) -> dict:
    with open(path, encoding="utf-8") as file:
        try:
            defaults = YAML(typ="rt").load(file)
        except (YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(defaults, dict):
        raise ValueError(f"{path} is not a mapping of settings: give a file such as hparams/conformer_ee.yaml")
    return defaults


def _did_you_mean(name: str, defaults: dict) -> str:
    near = difflib.get_close_matches(name, [*defaults, *_RUN_OPTION_TYPES], n=1)
    return f": do you mean --{near[0]}?" if near else ": give a key of the yaml"


def _run_option(name: str, words: list[str]) -> object:
    kind = _RUN_OPTION_TYPES[name]
    kind = next((one for one in typing.get_args(kind) if one in (int, str)), kind)  # of Optional[int]
    if kind is bool:
        return _flag(name, words)
    if not words or not words[0]:
        raise ValueError(f"--{name} needs a value: {HELP_TEXTS.get(name, 'keys of modules')}")
    if "keys" in name:
        return words
    if choices := typing.get_args(kind):
        if words[0] not in choices:
            raise ValueError(f"--{name} {words[0]}: choose from {', '.join(choices)}")
        return words[0]
    try:
        value = kind(words[0])
    except ValueError:
        value = math.nan
    if kind is not str and not math.isfinite(value):
        raise ValueError(f"--{name} {words[0]}: give a {'whole ' if kind is int else ''}number")
    if name in AT_LEAST_ONE and value < 1:
        raise ValueError(f"--{name} {words[0]}: give 1 or more")
    return value


def _flag(name: str, words: list[str]) -> bool:
    if words and words[0].lower() not in ("true", "false"):
        raise ValueError(f"--{name}={words[0]}: it is a flag, give --{name} alone")
    return not words or words[0].lower() == "true"
