# SPDX-License-Identifier: Apache-2.0
"""Checks of stock SpeechBrain modules: their classes and settings, and that lobes made of them give the same values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from speechbrain.nnet.linear import Linear
from torch import nn

TOLERANCE = 1e-3  # of states and log-probabilities of about 1; other settings change them by more than 0.01


def check_setting(name: str, value: object, allowed: object) -> None:
    """Check a setting of a stock module.

    Raises
    ------
    ValueError
        If it is not among those allowed.

    Example
    -------
    >>> check_setting("causal", True, (False,))
    Traceback (most recent call last):
    ValueError: causal is True: only False can be used with exits
    """
    if value not in allowed:
        raise ValueError(f"{name} is {value}: only {' or '.join(map(str, allowed))} can be used with exits")


def compare(what: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    """Check that a lobe gives what the stock modules give.

    Raises
    ------
    ValueError
        If the values differ by more than the tolerance.
    """
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if not difference <= TOLERANCE:
        raise ValueError(
            f"the {what} of the recipe gives other values than the one of this package with the same weights (largest "
            f"difference {difference:.2g}): a setting of its modules, such as an activation, has no equal here; use "
            "those of SpeechBrain's LibriSpeech recipes"
        )


@contextmanager
def evaluation(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode for some modules, without gradients; afterwards each submodule has its earlier mode."""
    modes = {one: one.training for module in modules for one in module.modules()}
    try:
        for module in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def noise(*shape: int) -> torch.Tensor:
    """Return the same normal noise at each call, without a change of the global random state."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def check_class(name: str, module: object, cls: type) -> None:
    """Check that a module of the recipe is of a class.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not isinstance(module, cls):
        raise ValueError(f"{name} is a {type(module).__name__}: give the recipe's {cls.__module__}.{cls.__name__}")


def check_linear(name: str, layer: Linear, d_model: int) -> int:
    """Check a linear layer of the recipe, and return its number of outputs.

    Raises
    ------
    ValueError
        If it has another input size or no bias.
    """
    check_class(name, layer, Linear)
    if layer.w.in_features != d_model or layer.w.bias is None:
        bias = "a" if layer.w.bias is not None else "no"
        raise ValueError(
            f"{name} takes {layer.w.in_features} values and has {bias} bias: it must take the {d_model} of the "
            "encoder and have a bias"
        )
    return layer.w.out_features
