# SPDX-License-Identifier: Apache-2.0
"""A trained model as files: ``config.json``, ``model.safetensors`` and the tokenizer.

``config.json`` names lobes from :data:`LOBES` and their plain arguments. No other class can be built from it, so
loading an untrusted model does not run its code. A HyperPyYAML file can run any code.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save
from torch import nn

from ee_runtime.decoders.make import greedy_class
from ee_runtime.errors import shortened
from ee_runtime.files import write_whole
from ee_runtime.special_tokens import BLANK_INDEX
from ee_runtime.text.error_units import WORD, ErrorUnit, unit_of
from speechbrain_ee import lobes
from speechbrain_ee.lobes.state_dicts import check_same, load_strict
from speechbrain_ee.model.checks import ShapesOnly, check_arguments, check_counts, read_json_object, read_shapes

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.model"
MODEL_FILES = (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE)
FORMAT = 1
MAX_FRAMES_PER_S = 1000  # encoder frames; features commonly have 100
MAX_REASON = 300  # characters of an error of a library
LOBES = {
    part: {cls.__name__: cls for cls in classes}
    for part, classes in {
        "features": [lobes.LogMel, lobes.Waveform, lobes.WhisperLogMel],
        "encoder": [
            lobes.ConformerExitEncoder,
            lobes.TransformerExitEncoder,
            lobes.Wav2Vec2ExitEncoder,
            lobes.HubertExitEncoder,
            lobes.WavLMExitEncoder,
            lobes.WhisperExitEncoder,
        ],
        "heads": [lobes.CTCHeads, lobes.JointHeads],
    }.items()
}
PARTS = tuple(LOBES)


class ModelError(ValueError):
    """A model folder cannot be used; the message says why and what to do."""


def to_config(modules: dict[str, nn.Module]) -> dict:
    """Return the classes and arguments of lobes as plain data.

    Arguments
    ---------
    modules : dict[str, nn.Module]
        The parts ``features``, ``encoder`` and ``heads``.

    Returns
    -------
    dict
        The input of :func:`build`.

    Example
    -------
    >>> to_config({"features": lobes.LogMel(n_mels=40)})["features"]["n_mels"]
    40
    """
    return {name: {"class": type(module).__name__} | module.config for name, module in modules.items()}


def build(config: dict) -> nn.ModuleDict:
    """Build lobes with random weights from their configuration.

    Raises
    ------
    ModelError
        If a part is missing, its class is unknown, or its arguments are invalid.

    Example
    -------
    >>> heads = lobes.CTCHeads(num_exits=2, d_model=4, vocab_size=5)
    >>> build_lobe("heads", to_config({"heads": heads})["heads"]).num_exits
    2
    """
    return nn.ModuleDict({name: build_lobe(name, config.get(name)) for name in PARTS})


def build_lobe(name: str, description: dict | None) -> nn.Module:
    """Build one part; see :func:`build`."""
    cls, arguments = check_lobe(name, description)
    try:
        return cls(**arguments)
    except Exception as error:  # invalid arguments raise many kinds of errors in torch
        raise ModelError(f"{CONFIG_FILE}: {name} cannot be built: {_reason(error) or type(error).__name__}") from error


def check_lobe(name: str, description: dict | None) -> tuple[type, dict]:
    """Check the configuration of one part; return its class and arguments."""
    if not isinstance(description, dict) or "class" not in description:
        raise ModelError(f"{CONFIG_FILE} has no {name!r}: it needs {', '.join(PARTS)}, each with a class")
    arguments = dict(description)
    if "source" in arguments:  # it would be read or downloaded
        raise ModelError(
            f"{CONFIG_FILE} names a source for {name!r}: a saved model must not have one, since it has its own weights"
        )
    if "vocab_size" in arguments and arguments["vocab_size"] is None:  # means "not known yet" in training
        raise ModelError(f"{CONFIG_FILE}: {name} cannot be built: vocab_size is null, give the number of tokens")
    cls = arguments.pop("class")
    known = LOBES[name]
    if not isinstance(cls, str) or cls not in known:
        raise ModelError(f"{CONFIG_FILE} names the class {shortened(cls)} for {name!r}: choose from {', '.join(known)}")
    try:
        check_arguments(known[cls], arguments)
    except ValueError as error:
        raise ModelError(f"{CONFIG_FILE}: {name} cannot be built: {error}") from None
    return known[cls], arguments


def save_model(
    folder: str | Path, modules: dict[str, nn.Module], *, tokenizer: str | Path, error_unit: ErrorUnit = WORD
) -> None:
    """Write a model folder, each file atomically.

    Arguments
    ---------
    folder : str | Path
        Folder to write; created if missing.
    modules : dict[str, nn.Module]
        The parts ``features``, ``encoder`` and ``heads``.
    tokenizer : str | Path
        SentencePiece model; it is copied.
    error_unit : ErrorUnit
        The unit of errors that the model was selected by.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = nn.ModuleDict({name: modules[name] for name in PARTS}).state_dict()
    write_whole(folder / WEIGHTS_FILE, save({key: value.contiguous().cpu() for key, value in state.items()}))
    if Path(tokenizer).resolve() != (folder / TOKENIZER_FILE).resolve():
        write_whole(folder / TOKENIZER_FILE, Path(tokenizer).read_bytes())
    # blank_index is for readers without our tokenizer. Do not change these bytes: calibrations depend on their hash.
    config = {"format": FORMAT, "blank_index": BLANK_INDEX} | to_config({name: modules[name] for name in PARTS})
    config |= {} if error_unit == WORD else {"error_unit": error_unit.name}
    write_whole(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())


def check_model(modules: dict[str, nn.Module]) -> None:
    """Check that a folder with these lobes can be loaded: their arguments give their weights, and they fit each other.

    Raises
    ------
    ModelError
        If they do not.
    """
    state = nn.ModuleDict({name: modules[name] for name in PARTS}).state_dict()
    try:
        check_same(_planned(to_config(modules), len(state)), state, what="the model")
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(str(error)) from None
    _check_fit(modules)


def load_config(path: str | Path) -> dict:
    """Read and check a ``config.json``.

    Raises
    ------
    ModelError
        If the file is missing, broken, of another format, or of a model with another blank than the tokenizer, or names
        an unknown error unit.
    """
    try:
        config = read_json_object(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: file not found: give a run folder of train.py or a model folder") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {_reason(error)}") from None
    if config.get("format") != FORMAT:
        given = shortened(config.get("format"))
        raise ModelError(f"{path}: format {given} is not {FORMAT}: use the version of speechbrain_ee that wrote it")
    if config.get("blank_index") != BLANK_INDEX:
        raise ModelError(
            f"{path}: blank_index is {shortened(config.get('blank_index'))}, and the tokenizer's blank is "
            f"{BLANK_INDEX}: a model that was trained with another blank gives no text, train it again"
        )
    try:
        unit_of(config)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
    return config


def load_model(config: dict, weights: str | Path) -> nn.ModuleDict:
    """Build the lobes of ``config`` and load all of their weights.

    The shapes in both files are compared first, on torch's meta device, so that files that do not fit, or that ask for
    huge tensors, cost no memory.

    Raises
    ------
    ModelError
        If weights are missing, unreadable, unknown or of another shape (the first are named), or the parts do not
        belong together.
    """
    try:
        given = read_shapes(weights)
    except FileNotFoundError:
        raise ModelError(f"{weights}: file not found: the model folder is incomplete") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{weights}: {_reason(error)}") from None
    except Exception as error:  # safetensors has its own error class for broken files
        raise ModelError(f"{weights}: not a safetensors file: {_reason(error)}: fetch the file again") from None
    try:
        check_same(_planned(config, len(given)), given, what=str(weights))
        modules = build(config)
        load_strict(modules, load_file(weights), what=str(weights))
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(str(error)) from None
    _check_fit(modules)
    return modules


def _planned(config: dict, num_tensors: int) -> dict:
    """Return the state dict of the lobes of ``config``, with shapes but without values."""
    features = build_lobe(
        "features", config.get("features")
    )  # small, and not all of them can be built on the meta device
    for name in ("encoder", "heads"):
        check_lobe(name, config.get(name))
    try:
        check_counts(config, num_tensors)
    except ValueError as error:
        raise ModelError(f"{CONFIG_FILE}: {error}") from None
    with ShapesOnly():
        parts = {"encoder": build_lobe("encoder", config["encoder"]), "heads": build_lobe("heads", config["heads"])}
    return nn.ModuleDict({"features": features} | parts).state_dict()


def _reason(error: Exception) -> str:
    """Return the error's message in one line, without the path of a system error."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:MAX_REASON]


def _check_fit(modules: Mapping[str, nn.Module]) -> None:
    """Check that the parts belong to one model."""
    features, encoder = modules["features"], modules["encoder"]
    heads = modules["heads"].config
    pairs = {
        "frame sizes of features and encoder": (features.frame_size, encoder.frame_size),
        "numbers of exits of encoder and heads": (len(encoder.exit_layers), modules["heads"].num_exits),
        "d_model of encoder and heads": (encoder.d_model, heads["d_model"]),
    }
    if "exit_layers" in heads:
        pairs["exit layers of encoder and heads"] = (list(encoder.exit_layers), list(heads["exit_layers"]))
    for what, (first, second) in pairs.items():
        if first != second:
            raise ModelError(f"{CONFIG_FILE}: {what} are {first} and {second}: they must be equal")
    seconds = 30
    try:
        frames = encoder.num_output_frames(features.num_frames(seconds * features.sample_rate))
    except ZeroDivisionError:
        frames = 0
    if not 0 < frames <= seconds * MAX_FRAMES_PER_S:
        raise ModelError(
            f"{CONFIG_FILE}: {seconds} s of audio are {frames} encoder frames, but at most {MAX_FRAMES_PER_S} per "
            "second are allowed: fetch the file again"
        )


def greedy_name(config: dict) -> str:
    """Return the name of the default decoder of a model with this ``config.json``.

    Example
    -------
    >>> greedy_name({"heads": {"class": "CTCHeads"}})
    'greedy CTC'
    """
    heads = LOBES["heads"].get(config["heads"]["class"])
    return greedy_class(heads is not None and heads.has_decoders).name
