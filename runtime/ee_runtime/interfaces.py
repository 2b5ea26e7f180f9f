# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs of the graphs of an export, and checks that a graph keeps to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

TYPES = {np.dtype(np.float32): "tensor(float)", np.dtype(np.int64): "tensor(int64)"}
ROUNDING = 1e-3
FLOAT, INT = np.dtype(np.float32), np.dtype(np.int64)


class Array(NamedTuple):
    """An input or output.

    Arguments
    ---------
    dtype : np.dtype
        Type of its values.
    axes : tuple of str
        Names of its axes; an axis has the same size wherever its name stands in one graph.
    length_of : str
        Its values are lengths along this axis, from 1 to its size.
    index_of : str
        Its values are positions on this axis, below its size.
    is_log_prob : bool
        Its values are at most 0, up to rounding, or NaN.
    """

    dtype: np.dtype
    axes: tuple[str, ...]
    length_of: str = ""
    index_of: str = ""
    is_log_prob: bool = False


class Interface(NamedTuple):
    """Inputs and outputs of a graph by name; outputs in order."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def _array(dtype: np.dtype, axes: str, **meaning: object) -> Array:
    return Array(dtype, tuple(axes.split()), **meaning)


STATE = {"x": _array(FLOAT, "batch frames width"), "lengths": _array(INT, "batch")}
FEATURES = Interface(
    {"wavs": _array(FLOAT, "batch samples"), "num_samples": _array(INT, "batch")},
    {"feats": _array(FLOAT, "batch frames width"), "num_frames": _array(INT, "batch", length_of="frames")},
)
FIRST_SEGMENT = Interface(
    STATE,
    {"y": _array(FLOAT, "batch frames_out width_out"), "out_lengths": _array(INT, "batch", length_of="frames_out")},
)
SEGMENT = Interface(STATE, {"y": _array(FLOAT, "batch frames width")})
EXIT = Interface(
    STATE,
    {
        "log_probs": _array(FLOAT, "batch frames vocab", is_log_prob=True),
        "best_log_probs": _array(FLOAT, "batch frames", is_log_prob=True),
        "best_tokens": _array(INT, "batch frames", index_of="vocab"),
        "scores": _array(FLOAT, "batch scores"),
    },
)
EXIT_WITH_STATE = EXIT._replace(outputs=EXIT.outputs | {"state": _array(FLOAT, "batch frames width")})
CHANGE = Interface(
    {
        "log_probs": _array(FLOAT, "batch frames vocab"),
        "previous_log_probs": _array(FLOAT, "batch frames vocab"),
        "lengths": _array(INT, "batch"),
    },
    {"change": _array(FLOAT, "batch")},
)


def memory_interface(num_layers: int) -> Interface:
    """Return the interface of the graph of an attention decoder for encoder frames.

    Example
    -------
    >>> list(memory_interface(num_layers=1).outputs)
    ['memory0', 'memory1']
    """
    return Interface({"state": _array(FLOAT, "batch frames width")}, _memory(num_layers))


def step_interface(num_layers: int) -> Interface:
    """Return the interface of the graph of an attention decoder for new tokens."""
    pairs, kept = range(2 * num_layers), "batch hypotheses heads {} size"  # keys and values of each layer
    inputs = {"tokens": _array(INT, "batch hypotheses new"), "lengths": _array(INT, "batch")} | _memory(num_layers)
    outputs = {
        "log_probs": _array(FLOAT, "batch hypotheses new vocab", is_log_prob=True),
        "best_log_probs": _array(FLOAT, "batch hypotheses new", is_log_prob=True),
        "best_tokens": _array(INT, "batch hypotheses new", index_of="vocab"),
        "entropies": _array(FLOAT, "batch hypotheses new"),
    }
    return Interface(
        inputs | {f"past{place}": _array(FLOAT, kept.format("before")) for place in pairs},
        outputs | {f"extended{place}": _array(FLOAT, kept.format("after")) for place in pairs},
    )


def _memory(num_layers: int) -> dict[str, Array]:
    axes = ("batch heads size frames", "batch heads frames size")  # of keys and values
    return {f"memory{place}": _array(FLOAT, axes[place % 2]) for place in range(2 * num_layers)}


def check_names(interface: Interface, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Check names and types that a graph declares; types are those of onnxruntime, such as ``tensor(float)``.

    Raises
    ------
    ValueError
        If they are not those of the interface.
    """
    for what, given, expected in (("inputs", inputs, interface.inputs), ("outputs", outputs, interface.outputs)):
        wanted = {name: TYPES[array.dtype] for name, array in expected.items()}
        if dict(given) != wanted or (what == "outputs" and list(given) != list(wanted)):
            raise ValueError(f"its {what} are {_short(given)} instead of {_short(wanted)}")


def check_arrays(
    interface: Interface, inputs: Mapping[str, np.ndarray], outputs: list[np.ndarray], sizes: Mapping[str, int]
) -> None:
    """Check the shapes and the integers that a graph returned.

    Arguments
    ---------
    interface : Interface
        The interface.
    inputs : mapping
        Inputs of the run.
    outputs : list of np.ndarray
        Outputs of the run, in order.
    sizes : mapping
        Known sizes of axes by name.

    Raises
    ------
    ValueError
        If an output has another shape, or an index or length is out of range.

    Example
    -------
    >>> inputs = {"x": np.zeros((2, 5, 8), np.float32), "lengths": np.array([5, 3])}
    >>> check_arrays(SEGMENT, inputs, [inputs["x"]], {})
    >>> check_arrays(SEGMENT, inputs, [inputs["x"][:1]], {})
    Traceback (most recent call last):
    ValueError: its output y has the shape (1, 5, 8), and (batch, frames, width) is (2, 5, 8)
    """
    known = dict(sizes)
    for name, array in interface.inputs.items():
        known.update(zip(array.axes, inputs[name].shape, strict=True))
    for (name, array), value in zip(interface.outputs.items(), outputs, strict=True):
        if not _fits(array.axes, value.shape, known):
            expected = ", ".join(str(known.get(axis, "any")) for axis in array.axes)
            raise ValueError(
                f"its output {name} has the shape {value.shape}, and ({', '.join(array.axes)}) is ({expected})"
            )
        if axis := array.length_of or array.index_of:
            lowest, highest = (1, known[axis]) if array.length_of else (0, known[axis] - 1)
            if value.size and not lowest <= value.min() <= value.max() <= highest:
                raise ValueError(f"its output {name} has values outside of {lowest} to {highest}")
        elif array.is_log_prob and (value > ROUNDING).any():
            raise ValueError(f"its output {name} has values above 0, which are not log-probabilities")


def _fits(axes: tuple[str, ...], shape: tuple[int, ...], known: dict[str, int]) -> bool:
    """Return whether a shape agrees with the known sizes of its axes; sizes that were not known are added."""
    return len(axes) == len(shape) and all(
        [known.setdefault(axis, size) == size for axis, size in zip(axes, shape, strict=True)]
    )


def _short(names: Mapping[str, str]) -> str:
    text = ", ".join(f"{name} {kind}" for name, kind in names.items())
    return text if len(text) <= 160 else f"{text[:160]}..."
