# SPDX-License-Identifier: Apache-2.0
"""Values of a yaml's settings, as they stand on a command line.

A setting is read as its default in the yaml is: a path or an alphabet as it stands, whatever it means in YAML; a list
with or without brackets; a number as a number.
"""

import math
import re
from pathlib import Path

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

PATH_ENDINGS = ("_folder", "_file", "_manifest", "_manifests")
OTHER_PATHS = {"data_root", "init_from", "source", "state_cache"}
NULL_IS_NONE = {"data_root", "init_from", "noise_manifest", "source", "state_cache", "text_file"}
TEXTS = {"alphabet"}  # may be digits, or empty
OBJECT_OR_NONE = {"prepare", "wav_augment"}


def is_path(name: str) -> bool:
    """Whether a setting is a path, or a list of them, by its name.

    >>> is_path("output_folder"), is_path("test_manifests"), is_path("lr")
    (True, True, False)
    """
    return name.endswith(PATH_ENDINGS) or name in OTHER_PATHS


def read_setting(name: str, words: list[str], default: object) -> object:
    """Read the value of a setting.

    Arguments
    ---------
    name : str
        The key of the yaml.
    words : list[str]
        What stands behind the option.
    default : object
        What the yaml has there.

    Returns
    -------
    object
        The value, such that HyperPyYAML takes it as it is.

    Raises
    ------
    ValueError
        If it is of another type than the default, or no YAML; says what to give. Of an object of the yaml, only its
        arguments can be given.

    Example
    -------
    >>> read_setting("exit_layers", ["2,4"], [1, 2]), read_setting("output_folder", ["2024"], "results")
    ([2, 4], '2024')
    """
    if isinstance(default, list):
        return _list(name, words, default)
    text = " ".join(words)
    if _is_object(default):
        return _object(name, text, default)
    if is_path(name):
        return None if name in NULL_IS_NONE and text == "null" else _path(name, text)
    if name in TEXTS:
        return _literal(name, text)
    value = _yaml(name, text)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"--{name} {text}: give True or False")
    elif isinstance(default, int | float):
        return _number(name, text, value, default)
    return value


def _is_object(default: object) -> bool:
    tag = getattr(getattr(default, "tag", None), "value", None) or ""
    return tag.startswith(("!new:", "!name:")) or (isinstance(default, dict) and not tag)


def _object(name: str, text: str, default: object) -> object:
    """A mapping, which replaces arguments of an object that has some; or null for one that may be missing."""
    value = _yaml(name, text)
    if isinstance(value, dict) and isinstance(default, dict):
        return value
    if value is None and name in OBJECT_OR_NONE:
        return None
    raise ValueError(f"--{name} is an object of the yaml: change its settings, or copy the yaml")


def _number(name: str, text: str, value: object, default: int | float) -> object:
    if not _is_number(value):
        raise ValueError(f"--{name} {text}: give a number ({default} by default)")
    if isinstance(default, int) and isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"--{name} {text}: give a whole number ({default} by default)")
        return int(value)
    return value


def _list(name: str, words: list[str], default: list) -> list:
    """A list in brackets; or a single item, or several with commas or spaces between them."""
    text = " ".join(words).strip()
    in_brackets = text.startswith("[") and text.endswith("]")
    if is_path(name):
        items = _paths_in_brackets(name, text) if in_brackets else [path for word in words for path in _paths(word)]
    else:
        pieces = text if in_brackets else ", ".join(re.split(r"[\s,]+", text.strip(", ")))
        items = _yaml(name, pieces if in_brackets else f"[{pieces}]")
    if text in ("", "null", "~") or (not items and not in_brackets):
        raise ValueError(f"--{name} {text}: give a list such as [a, b], or [] for none")
    if is_path(name):
        return [_path(name, item) for item in items]
    if items and any(map(_is_object, default)):
        raise ValueError(f"--{name} is a list of objects of the yaml: give [] for none, or copy the yaml")
    if default and all(isinstance(one, int | float) for one in default):
        if not all(_is_number(one) for one in items):
            raise ValueError(f"--{name} {text}: give a list of numbers, such as {list(default)}")
        return [int(one) if float(one).is_integer() else one for one in items]
    return items


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _paths(word: str) -> list[str]:
    """The paths in one word: it is split at commas, then at spaces, where no file has that name; blanks are none."""
    found = []
    for part in filter(str.strip, [word] if Path(word).exists() else word.split(",")):
        part = part if Path(part).exists() else part.strip()
        found += [part] if Path(part).exists() else part.split()
    return found


def _paths_in_brackets(name: str, text: str) -> list[str]:
    try:
        items = YAML(typ="base", pure=True).load(text)
    except YAMLError:
        items = [None]
    if not all(isinstance(item, str) for item in items):
        raise ValueError(
            f"--{name} {text}: give paths such as [a.jsonl, b.jsonl], each in quotation marks where it has a comma, "
            "a colon, # or a bracket"
        )
    return items


def _path(name: str, text: str) -> DoubleQuotedScalarString:
    if not text.strip():
        raise ValueError(f"--{name} is empty: give a path")
    if re.search("<[^>]*>", text):
        raise ValueError(f"--{name} {text}: <...> in a path would be read as another setting; give another name")
    # HyperPyYAML would compute 1/0, and writes a list's ?/a such that it is read as a key.
    is_misread = text.startswith("?") or (re.fullmatch(r"[\d\s.()*/%+-]+", text) and re.search("[*/%]", text))
    return _literal(name, f"./{text}" if is_misread and not text.startswith(("/", ".")) else text)


def _literal(name: str, text: str) -> DoubleQuotedScalarString:
    """A text that stays one in YAML."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"--{name} {text!r} is not UTF-8: give another name") from None
    return DoubleQuotedScalarString(text)


def _yaml(name: str, text: str) -> object:
    try:
        return YAML(typ="rt").load(text)
    except YAMLError as error:
        reason = getattr(error, "problem", None) or str(error)
        raise ValueError(f"--{name} {text}: no YAML ({reason})") from None
