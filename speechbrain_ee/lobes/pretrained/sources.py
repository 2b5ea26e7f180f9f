# SPDX-License-Identifier: Apache-2.0
"""Sources of pretrained models: folders and Hub names in the format of the transformers library."""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ee_runtime.errors import one_line
from ee_runtime.files import check_not_pointer

INSTALL = "pip install 'speechbrain_ee[ssl]'"


def import_transformers():
    """Import the transformers library; if missing, raise an error that says how to install it."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"pretrained encoders need transformers: {INSTALL} ({error})") from None
    return transformers


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the library's tables and progress bars; our own checks report what matters."""
    logs = import_transformers().utils.logging
    verbosity, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # SpeechBrain uses deprecated names
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
        What the file describes, for the message.

    Returns
    -------
    dict
        Contents of the file.

    Raises
    ------
    ValueError
        If the file is missing, cannot be downloaded or is not a JSON object.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "config.json").write_text('{"model_type": "whisper"}')
    >>> read_source(str(folder), "config.json", "the configuration")
    {'model_type': 'whisper'}
    """
    if not source:
        raise ValueError("the source is empty: give a folder or a name on the HuggingFace Hub")
    path = Path(source) / file if Path(source).is_dir() else _fetch(source, file, what)
    try:
        check_not_pointer(path)
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{source} has no {file}, which describes {what}: give the folder of a HuggingFace model"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a JSON object: give the folder of a HuggingFace model")
    return found


def _fetch(source: str, file: str, what: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it logs every retry; the result is reported below
    try:
        return Path(hf_hub_download(source, file))
    except (OSError, HFValidationError) as error:
        raise ValueError(
            f"{source} is not a folder, and its {file}, which describes {what}, cannot be downloaded from the Hub: "
            f"{one_line(error)[:200]}"
        ) from None
    finally:
        logging.set_verbosity(verbosity)


def check_extractor(source: str, kind: str, wanted: dict[str, tuple[object, str]]) -> dict:
    """Check that a pretrained model was trained on features with the given settings.

    Arguments
    ---------
    source : str
        A folder, or a name on the HuggingFace Hub.
    kind : str
        The library's class of the feature extractor.
    wanted : dict[str, tuple[object, str]]
        For each setting, by the library's name: our value, and advice if the source has another. Settings that the
        source omits have the library's default, which equals ours.

    Returns
    -------
    dict
        All settings of the extractor.

    Raises
    ------
    ValueError
        If the class or a setting differs.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> text = '{"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128}'
    >>> _ = (folder / "preprocessor_config.json").write_text(text)
    >>> check_extractor(str(folder), "WhisperFeatureExtractor", {"feature_size": (128, "")})["feature_size"]
    128
    """
    settings = _extractor_settings(source)
    made_for = settings.get("feature_extractor_type") or _extractor_by_type(source)
    if made_for != kind:
        raise ValueError(
            f"{source} was trained on features of {made_for}, but these are of {kind}: use the yaml of its type"
        )
    for name, (value, advice) in wanted.items():
        if settings.get(name, value) != value:
            raise ValueError(
                f"{source} was trained on features with {name}={settings[name]!r}, but these have {value!r}: {advice}"
            )
    return settings


def _extractor_settings(source: str) -> dict:
    """Read the settings of the feature extractor; newer folders have them in the processor's settings."""
    what = "the features it was trained on"
    try:
        return read_source(source, "preprocessor_config.json", what)
    except ValueError:
        try:
            return read_source(source, "processor_config.json", what)["feature_extractor"]
        except (ValueError, KeyError):
            pass
        raise


def _extractor_by_type(source: str) -> str:
    """Return the extractor of older folders, which do not name it, by the type of the model."""
    is_whisper = read_source(source, "config.json", "the encoder's configuration").get("model_type") == "whisper"
    return "WhisperFeatureExtractor" if is_whisper else "Wav2Vec2FeatureExtractor"


def pretrained_source(*, source: str | None, family: str, folder: str) -> str:
    """Return the name of a pretrained model; by default make a tiny randomly initialised one for tests.

    Nothing is downloaded here.

    Arguments
    ---------
    source : str | None
        A folder or a name on the HuggingFace Hub; None uses ``folder``.
    family : str
        The library's model type: ``wav2vec2``, ``hubert``, ``wavlm`` or ``whisper``.
    folder : str
        Folder of the tiny model; created if missing.

    Returns
    -------
    str
        ``source`` or ``folder``.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "tiny"
    >>> source = pretrained_source(source=None, family="whisper", folder=str(folder))
    >>> read_source(source, "config.json", "the configuration")["model_type"]
    'whisper'
    """
    if source is not None:
        return str(source)
    if not Path(folder).exists():
        _make_tiny(family, Path(folder))
    return str(folder)


TINY = {"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96, "conv_dim": [24] * 7}
TINY |= {"num_hidden_layers": 12, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
TINY_WHISPER = {"d_model": 64, "encoder_layers": 6, "encoder_attention_heads": 4, "encoder_ffn_dim": 128}
TINY_WHISPER |= {"decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "vocab_size": 64}
TINY_WHISPER |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}


def _make_tiny(family: str, folder: Path) -> None:
    """Make a model folder in the format of the Hub, atomically."""
    transformers = import_transformers()
    is_whisper = family == "whisper"
    shape = transformers.AutoConfig.for_model(family, **(TINY_WHISPER if is_whisper else TINY))
    extractor = transformers.WhisperFeatureExtractor if is_whisper else transformers.Wav2Vec2FeatureExtractor
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent))
    made.chmod(0o755)
    try:
        with torch.random.fork_rng(devices=[]), quiet_transformers():
            torch.manual_seed(0)
            transformers.AutoModel.from_config(shape).save_pretrained(made)
            extractor().save_pretrained(made)
        os.rename(made, folder)
    except OSError:
        if not folder.exists():  # otherwise another process made it
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
