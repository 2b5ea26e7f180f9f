# SPDX-License-Identifier: Apache-2.0
"""Where pretrained models come from: folders and Hub names in the form of the transformers library."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALL = "pip install 'speechbrain_ee[ssl]'"


def import_transformers():
    """Import the library, or say in one line how to get it."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"pretrained encoders need transformers: {INSTALL} ({error})") from None
    return transformers


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep the library's tables and progress bars off the screen; what matters of them is checked here."""
    logs = import_transformers().utils.logging
    verbosity, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(verbosity)
        if bars:
            logs.enable_progress_bar()


def read_source(source: str, file: str, what: str) -> dict:
    """Read a JSON file of a pretrained model.

    Arguments
    ---------
    source : str
        A folder, or a name on the HuggingFace Hub.
    file : str
        ``config.json`` or ``preprocessor_config.json``.
    what : str
        What is read, for the message.

    Returns
    -------
    dict
        What it says.

    Raises
    ------
    ValueError
        If it is not there, out of reach or no JSON object.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "config.json").write_text('{"model_type": "whisper"}')
    >>> read_source(str(folder), "config.json", "the shape")
    {'model_type': 'whisper'}
    """
    path = Path(source) / file if Path(source).is_dir() else _fetch(source, file, what)
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{source} has no {file}, which gives {what}: give the folder of a HuggingFace model"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON object: give the folder of a HuggingFace model")
    return found


def _fetch(source: str, file: str, what: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(hf_hub_download(source, file))
    except (OSError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{source} is no folder here, and its {file}, which gives {what}, cannot be had from the Hub: {reason}"
        ) from None


def check_extractor(source: str, kind: str, wanted: dict) -> dict:
    """Check that a pretrained model was trained on such features as it will be given.

    Arguments
    ---------
    source : str
        A folder, or a name on the HuggingFace Hub.
    kind : str
        The library's class of the feature extractor.
    wanted : dict
        Its settings, by the library's names.

    Returns
    -------
    dict
        All that its ``preprocessor_config.json`` says.

    Raises
    ------
    ValueError
        If class or settings are others.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> text = '{"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128}'
    >>> _ = (folder / "preprocessor_config.json").write_text(text)
    >>> check_extractor(str(folder), "WhisperFeatureExtractor", {"feature_size": 128})["feature_size"]
    128
    """
    said = read_source(source, "preprocessor_config.json", "the features it was trained on")
    for name, value in ({"feature_extractor_type": kind} | wanted).items():
        if said.get(name) != value:
            raise ValueError(f"{source} was trained on features with {name}={said.get(name)!r}, these have {value!r}")
    return said
