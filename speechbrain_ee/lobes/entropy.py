# SPDX-License-Identifier: Apache-2.0
"""Entropy of the distributions of CTC heads and attention decoders."""

from __future__ import annotations

import math

from torch import Tensor


def shannon_entropy(log_probs: Tensor, probs: Tensor | None = None) -> Tensor:
    """Compute the entropy of each distribution, divided by log(vocabulary size), the entropy of a uniform one.

    Arguments
    ---------
    log_probs : Tensor
        (..., vocab).
    probs : Tensor | None
        ``log_probs.exp()``, if the caller has computed it already.

    Returns
    -------
    Tensor
        (...,), from 0 to 1 up to rounding.

    Example
    -------
    >>> import torch
    >>> shannon_entropy(torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]).log()).abs()
    tensor([0.5000, 0.0000])
    """
    probs = log_probs.exp() if probs is None else probs
    # 0 * log 0 is 0: the clamp keeps 0 * -inf from becoming NaN, but does not hide a NaN in log_probs.
    return (probs * log_probs.clamp(min=-1e4)).sum(-1) / -math.log(log_probs.shape[-1])
