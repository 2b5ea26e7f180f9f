# SPDX-License-Identifier: Apache-2.0
"""Parse values of yaml settings that are given on the command line.

A value is parsed by the type of its default in the yaml: paths and alphabets are taken literally, whatever they mean in
YAML; lists may have brackets or not; numbers must be numbers.
"""

import math
import re
from pathlib import Path

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

PATH_ENDINGS = ("_folder", "_file", "_manifest", "_manifests")
OTHER_PATHS = {"data_root", "init_from", "source", "state_cache"}
NULL_IS_NONE = {"data_root", "init_from", "noise_manifest", "source", "state_cache", "text_file"}
TEXTS = {"alphabet"}  # may consist of digits, or be empty
NUMBER_OR_NONE = {"vocab_size"}  # whole numbers, or null
OBJECT_OR_NONE = {"prepare", "wav_augment"}


def is_path(name: str) -> bool:
    """Return whether a setting is a path or a list of paths, judging by its name.

    >>> is_path("output_folder"), is_path("test_manifests"), is_path("lr")
    (True, True, False)
    """
    return name.endswith(PATH_ENDINGS) or name in OTHER_PATHS


def read_setting(name: str, words: list[str], default: object) -> object:
    """Parse the value of a setting.

    Arguments
    ---------
    name : str
        Key in the yaml.
    words : list[str]
        Words after the option.
    default : object
        Value in the yaml.

    Returns
    -------
    object
        Value, in a form that HyperPyYAML does not change.

    Raises
    ------
    ValueError
        If the type differs from that of the default, or the value is not valid YAML. For an object, only a mapping of
        its arguments is accepted.

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
    if name in NUMBER_OR_NONE:
        return None if value is None else _number(name, text, value, 256 if default is None else default)
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
    """Parse a mapping of arguments that replaces those of an object, or null for an optional object."""
    value = _yaml(name, text)
    if isinstance(value, dict) and isinstance(default, dict):
        return value
    if value is None and name in OBJECT_OR_NONE:
        return None
    raise ValueError(f"--{name} is an object in the yaml: change its settings instead, or copy the yaml")


def _number(name: str, text: str, value: object, default: int | float) -> object:
    if not _is_number(value):
        raise ValueError(f"--{name} {text}: give a number ({default} by default)")
    if isinstance(default, int) and isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"--{name} {text}: give a whole number ({default} by default)")
        return int(value)
    return value


def _list(name: str, words: list[str], default: list) -> list:
    """Parse a list in brackets, or items separated by commas or spaces."""
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
        raise ValueError(f"--{name} is a list of objects in the yaml: give [] for none, or copy the yaml")
    if default and all(isinstance(one, int | float) for one in default):
        if not all(_is_number(one) for one in items):
            raise ValueError(f"--{name} {text}: give a list of numbers, such as {list(default)}")
        return [int(one) if float(one).is_integer() else one for one in items]
    return items


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _paths(word: str) -> list[str]:
    """Split a word into paths at commas and spaces, unless a file of that name exists; ignore blanks."""
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
            f"--{name} {text}: give paths such as [a.jsonl, b.jsonl], with quotation marks around those that contain a "
            "comma, a colon, # or a bracket"
        )
    return items


def _path(name: str, text: str) -> DoubleQuotedScalarString:
    if not text.strip():
        raise ValueError(f"--{name} is empty: give a path")
    if re.search("<[^>]*>", text):
        raise ValueError(
            f"--{name} {text}: <...> in a path would be read as a reference to a setting; use another name"
        )
    # HyperPyYAML would evaluate 1/0 as arithmetic, and would write ?/a in a list so that it is read as a key.
    is_misread = text.startswith("?") or (re.fullmatch(r"[\d\s.()*/%+-]+", text) and re.search("[*/%]", text))
    return _literal(name, f"./{text}" if is_misread and not text.startswith(("/", ".")) else text)


def _literal(name: str, text: str) -> DoubleQuotedScalarString:
    """Quote a string so that YAML keeps it as a string."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"--{name} {text!r} is not UTF-8: use another name") from None
    return DoubleQuotedScalarString(text)


def _yaml(name: str, text: str) -> object:
    try:
        return YAML(typ="rt").load(text)
    except YAMLError as error:
        reason = getattr(error, "problem", None) or str(error)
        raise ValueError(f"--{name} {text}: not valid YAML ({reason})") from None
