# SPDX-License-Identifier: Apache-2.0
"""Checks of untrusted model files before a model is built: types, sizes, and that the files belong together."""

from __future__ import annotations

import inspect
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch.overrides import TorchFunctionMode

from ee_runtime.errors import shortened
from ee_runtime.files import lfs_hint

MAX_CONFIG_BYTES = 2**20  # ours have about 2 kB
MAX_HEADER_BYTES = 2**21  # a tensor takes about 100 bytes, and large models have a few thousand
MAX_INTEGER = 10**9
UNIONS = (types.UnionType, typing.Union)  # `int | None`, and its form in Python 3.10
# Limits of feature settings, which no weights confirm; useful values are far below.
FEATURE_LIMITS = {"sample_rate": 400_000, "n_mels": 1024, "n_fft": 16384, "win_length_ms": 1000, "hop_length_ms": 1000}
FEATURE_LIMITS |= {"f_max": 200_000, "downsample": 1000}
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
OTHERS = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
OTHERS |= {"BOOL": torch.bool}

# Functions that constructors call, with a result of the same shape as their input.
SAME_SHAPE = {"layer_norm", "leaky_relu", "dropout", "dropout2d", "float", "exp", "sin", "cos", "mul", "__mul__"}


def read_json_object(path: str | Path) -> dict:
    """Read a small file with one JSON object.

    Raises
    ------
    ValueError
        If the file is too large, a pointer of Git LFS, not JSON, or not an object.
    OSError
        If the file cannot be read.
    """
    size = Path(path).stat().st_size
    if size > MAX_CONFIG_BYTES:
        raise ValueError(f"it has {size / 2**20:.0f} MB, but a configuration has at most 1: fetch the file again")
    data = Path(path).read_bytes()
    if hint := lfs_hint(data):
        raise ValueError(f"it {hint}")
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("not JSON: nested too deeply: fetch the file again") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"not a JSON object but {type(found).__name__}: fetch the file again")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def read_shapes(weights: str | Path) -> dict[str, torch.Tensor]:
    """Read the names, shapes and types of the tensors in a safetensors file, without their values.

    Returns
    -------
    dict[str, torch.Tensor]
        Tensors on the meta device, which take no memory.

    Raises
    ------
    ValueError
        If the file is a pointer of Git LFS, its header is too long, or a tensor has a type that no weight has.
    Exception
        An error of safetensors, if the file is broken.
    """
    with open(weights, "rb") as file:
        start = file.read(200)
        if hint := lfs_hint(start):
            raise ValueError(f"it {hint}")
        size = int.from_bytes(start[:8], "little")
        if size > MAX_HEADER_BYTES:
            raise ValueError("not a safetensors file: its header is too long: fetch the file again")
        file.seek(8)
        header = file.read(size)
    with safe_open(weights, framework="pt") as opened:
        names = opened.keys()  # the header is valid; to ask for each tensor takes minutes in older versions
    shapes, tensors = {}, json.loads(header)
    for name in names:
        written = tensors[name]["dtype"]
        kind = (FLOATS | OTHERS).get(written)
        if kind is None:
            known = ", ".join(FLOATS)
            raise ValueError(f"{name} is of type {written}, but weights are of {known}: save the model again")
        shapes[name] = torch.empty(tensors[name]["shape"], dtype=kind, device="meta")
    return shapes


def check_arguments(cls: type, arguments: Mapping) -> None:
    """Check a lobe's arguments: types by the constructor's annotations, and limits of numbers.

    Raises
    ------
    ValueError
        If an argument is invalid; the message gives its name, its value and what is allowed.

    Example
    -------
    >>> from speechbrain_ee.lobes import CTCHeads
    >>> check_arguments(CTCHeads, {"num_exits": "2"})
    Traceback (most recent call last):
    ValueError: num_exits is '2': it must be int
    """
    hints = _annotations(cls)
    for name, value in arguments.items():
        if name in hints and not _fits(value, hints[name]):
            raise ValueError(f"{name} is {shortened(value)}: it must be {_type_text(hints[name])}")
        _check_numbers(name, value)
        limit = FEATURE_LIMITS.get(name) if hasattr(cls, "min_seconds") else None
        if limit is not None and value is not None and not 0 < value <= limit:
            raise ValueError(f"{name} is {shortened(value)}: it must be above 0 and at most {limit}")


def check_counts(config: Mapping, num_tensors: int) -> None:
    """Refuse more layers, exits and channels than the weights have tensors: building them could take hours.

    Raises
    ------
    ValueError
        If there are too few tensors.
    """
    encoder, heads = config["encoder"], config["heads"]
    exits = heads.get("num_exits") or len(heads.get("exit_layers", ()))
    decoders = exits if heads.get("decoders") == "per_exit" else 1
    parts = [encoder.get("num_layers", 0), exits, decoders * heads.get("num_decoder_layers", 0)]
    settings = encoder.get("backbone") or {}
    lists = [value for value in (*encoder.values(), *settings.values()) if isinstance(value, list)]
    parts += [max(map(len, lists), default=0)]
    if sum(part for part in parts if isinstance(part, int)) > num_tensors:
        raise ValueError(
            f"it has {encoder.get('num_layers')} layers and {exits} exits, but the weights have {num_tensors} tensors: "
            "the two files are not of one model, fetch them again"
        )


class ShapesOnly(TorchFunctionMode):
    """Build modules on the meta device, with names and shapes but without memory.

    SpeechBrain's front-end runs its blocks to find their shapes, and computes its tables of positions. Torch's own
    implementation of these functions on the meta device imports a symbolic mathematics library, which takes seconds.
    Here they return tensors of the right shape.
    """

    def __enter__(self) -> ShapesOnly:
        self._device = torch.device("meta")
        self._device.__enter__()
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._device.__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Replace a function of torch; see ``TorchFunctionMode``."""
        name = getattr(func, "__name__", "")
        if name == "conv2d":
            return _convolved(*args, **kwargs or {})
        changes_numbers = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        if name in SAME_SHAPE or changes_numbers:
            return args[0] if args else kwargs["tensor"]
        if name == "__setitem__":  # writes to a table of positions
            return None
        if name == "arange":
            return torch.empty(len(range(*args)), device="meta", dtype=(kwargs or {}).get("dtype", torch.int64))
        return func(*args, **kwargs or {})


def _convolved(x, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1) -> torch.Tensor:
    del bias, groups
    sizes = [
        (size + 2 * pad - step * (kernel - 1) - 1) // by + 1
        for size, kernel, by, pad, step in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    ]
    return x.new_empty([x.shape[0], weight.shape[0], *sizes])


def _annotations(cls: type) -> dict:
    """Return the types of constructor arguments, including those passed on to base classes."""
    found: dict = {}
    for one in cls.__mro__:
        if "__init__" in vars(one) and one is not object:
            found = typing.get_type_hints(one.__init__) | found
            kinds = {parameter.kind for parameter in inspect.signature(one.__init__).parameters.values()}
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                break
    return {name: hint for name, hint in found.items() if name not in ("return", "arguments", "head")}


def _fits(value: object, hint: object) -> bool:
    kinds = typing.get_args(hint) if typing.get_origin(hint) in UNIONS else (hint,)
    return any(_is_a(value, kind) for kind in kinds)


def _is_a(value: object, kind: object) -> bool:
    """Whether a JSON value has an annotated type."""
    if kind in (None, type(None)):
        return value is None
    if typing.get_origin(kind) in (Sequence, list, tuple):
        inner = typing.get_args(kind)[0]
        return isinstance(value, list) and all(_is_a(one, inner) for one in value)
    if kind in (bool, str, dict):
        return isinstance(value, kind)
    if isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else int)


def _type_text(hint: object) -> str:
    kinds = typing.get_args(hint) if typing.get_origin(hint) in UNIONS else (hint,)
    # In Python 3.10, list[int] is an instance of type, too.
    names = [
        kind.__name__ if typing.get_origin(kind) is None and isinstance(kind, type) else str(kind) for kind in kinds
    ]
    text = " | ".join(names).replace("NoneType", "None")
    return text.replace("collections.abc.", "").replace("Sequence", "list").replace("None", "null")


def _check_numbers(name: str, value: object) -> None:
    if isinstance(value, (list, dict)):
        for one in value if isinstance(value, list) else value.values():
            _check_numbers(name, one)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}: it must be finite")
    elif isinstance(value, int) and not 0 <= value <= MAX_INTEGER:
        raise ValueError(f"{name} is {shortened(value)}: it must be from 0 to {MAX_INTEGER}")
