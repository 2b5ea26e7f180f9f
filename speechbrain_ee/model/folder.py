# SPDX-License-Identifier: Apache-2.0
"""A trained model as files: ``config.json`` and ``model.safetensors``, and the tokenizer beside them.

``config.json`` names lobes from :data:`LOBES` and their plain arguments. Nothing else can be built from it, so loading
a stranger's model runs no code of theirs; a HyperPyYAML file would.
"""

import json
from pathlib import Path

from safetensors.torch import load_file, save
from torch import nn

from speechbrain_ee import lobes
from speechbrain_ee.decoders.attention import GreedyAttention
from speechbrain_ee.decoders.ctc import GreedyCTC
from speechbrain_ee.errors import shortened
from speechbrain_ee.files import write_whole
from speechbrain_ee.lobes.state_dicts import check_same, load_strict
from speechbrain_ee.model.checks import ShapesOnly, check_arguments, check_counts, read_json_object, read_shapes
from speechbrain_ee.special_tokens import BLANK_INDEX

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.model"
MODEL_FILES = (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE)
FORMAT = 1
MAX_FRAMES_PER_S = 1000  # of an encoder: ten times as many as features commonly have
MAX_REASON = 300  # characters of an error from deep within
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
    """A model folder that cannot be used; the message says why and what to do."""


def to_config(modules: dict[str, nn.Module]) -> dict:
    """Describe lobes as plain data.

    Arguments
    ---------
    modules : dict[str, nn.Module]
        The parts ``features``, ``encoder`` and ``heads``.

    Returns
    -------
    dict
        What :func:`build` takes.

    Example
    -------
    >>> to_config({"features": lobes.LogMel(n_mels=40)})["features"]["n_mels"]
    40
    """
    return {name: {"class": type(module).__name__} | module.config for name, module in modules.items()}


def build(config: dict) -> nn.ModuleDict:
    """Build lobes, with fresh weights, from their description.

    Raises
    ------
    ModelError
        If a part is missing, its class unknown or its arguments do not fit.

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
    except Exception as error:  # a stranger's numbers fail in many ways, deep in torch
        raise ModelError(f"{CONFIG_FILE}: {name} cannot be built: {_reason(error) or type(error).__name__}") from error


def check_lobe(name: str, description: dict | None) -> tuple[type, dict]:
    """Check the description of one part; gives its class and arguments of the right types."""
    if not isinstance(description, dict) or "class" not in description:
        raise ModelError(f"{CONFIG_FILE} describes no {name!r}: it needs {', '.join(PARTS)}, each with a class")
    arguments = dict(description)
    if "source" in arguments:  # it would be read, or downloaded
        raise ModelError(f"{CONFIG_FILE} names a source for {name!r}: a saved model has none, its weights are its own")
    cls = arguments.pop("class")
    known = LOBES[name]
    if not isinstance(cls, str) or cls not in known:
        raise ModelError(f"{CONFIG_FILE} names the class {shortened(cls)} for {name!r}: known are {', '.join(known)}")
    try:
        check_arguments(known[cls], arguments)
    except ValueError as error:
        raise ModelError(f"{CONFIG_FILE}: {name} cannot be built: {error}") from None
    return known[cls], arguments


def save_model(folder: str | Path, modules: dict[str, nn.Module], *, tokenizer: str | Path) -> None:
    """Write a model folder, each file whole or not at all.

    Arguments
    ---------
    folder : str | Path
        Made if missing.
    modules : dict[str, nn.Module]
        The parts ``features``, ``encoder`` and ``heads``.
    tokenizer : str | Path
        SentencePiece model, copied.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = nn.ModuleDict({name: modules[name] for name in PARTS}).state_dict()
    write_whole(folder / WEIGHTS_FILE, save({key: value.contiguous().cpu() for key, value in state.items()}))
    if Path(tokenizer).resolve() != (folder / TOKENIZER_FILE).resolve():
        write_whole(folder / TOKENIZER_FILE, Path(tokenizer).read_bytes())
    # The blank is for readers without our tokenizer; the same bytes as ever keep the calibration of a saved model.
    config = {"format": FORMAT, "blank_index": BLANK_INDEX} | to_config({name: modules[name] for name in PARTS})
    write_whole(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())


def load_config(path: str | Path) -> dict:
    """Read and check a ``config.json``.

    Raises
    ------
    ModelError
        If it is missing, broken, of another format, or of a model with another blank than the tokenizer.
    """
    try:
        config = read_json_object(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; give a run folder of train.py or a bundle") from None
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
    return config


def load_model(config: dict, weights: str | Path) -> nn.ModuleDict:
    """Build the lobes of ``config`` and load their weights, every one of them.

    The shapes that the two files say they have are compared first, on torch's meta device: what does not fit, or asks
    for more than the weights have, costs no memory.

    Raises
    ------
    ModelError
        If weights are missing, unreadable, too few, too many or of another shape (the first are named), or the parts
        do not belong together.
    """
    try:
        given = read_shapes(weights)
    except FileNotFoundError:
        raise ModelError(f"{weights}: no such file; the model folder is not complete") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{weights}: {_reason(error)}") from None
    except Exception as error:  # safetensors has one error class of its own for broken files
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
    """State that the lobes of ``config`` would have, without its numbers."""
    features = build_lobe("features", config.get("features"))  # small, and torch cannot plan them all
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
    """The error's own words in one line; of the system's, without the path, which stands before it."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:MAX_REASON]


def _check_fit(modules: nn.ModuleDict) -> None:
    """Refuse parts that were made for different models."""
    features, encoder = modules["features"], modules["encoder"]
    heads = modules["heads"].config
    pairs = {
        "numbers in a frame of features and encoder": (features.frame_size, encoder.frame_size),
        "exits of encoder and heads": (len(encoder.exit_layers), modules["heads"].num_exits),
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
            f"{CONFIG_FILE}: {seconds} s of audio are {frames} frames of the encoder, and at most {MAX_FRAMES_PER_S} a "
            "second are taken: fetch the file again"
        )


def greedy_name(config: dict) -> str:
    """Name of the decoder that a model of this ``config.json`` has by default.

    Example
    -------
    >>> greedy_name({"heads": {"class": "CTCHeads"}})
    'greedy CTC'
    """
    heads = LOBES["heads"].get(config["heads"]["class"])
    return (GreedyAttention if heads is not None and heads.has_decoders else GreedyCTC).name
