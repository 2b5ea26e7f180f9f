# SPDX-License-Identifier: Apache-2.0
"""Exit scores: one number per utterance and exit that says how sure the model is.

The registry ``SCORES`` says of every name whether higher or lower is surer. It is also read where
there is no torch (policies, replay), so torch is imported only when a score is computed.

Source: Wright et al., arXiv 2309.09546, who stop on the mean frame entropy. Their code divides the
summed entropy by ``frames * tokens``; here it is divided by ``frames * log(tokens)``, the entropy
of a uniform guess, so that a score lies in [0, 1] and a threshold keeps its meaning when the
vocabulary changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ScoreInfo:
    """What a score's name means.

    Arguments
    ---------
    name : str
        The key in ``utterances.jsonl``, in policies and in reports.
    higher_is_surer : bool
        Direction: True if a policy stops at or above its threshold, False if at or below.
    description : str
        One line for reports and error messages.
    """

    name: str
    higher_is_surer: bool
    description: str


SCORES: dict[str, ScoreInfo] = {
    info.name: info
    for info in (
        ScoreInfo("entropy", False, "mean frame entropy / log(vocabulary size)"),
        ScoreInfo("entropy_nonblank", False, "the same over the frames whose best token is not blank"),
        ScoreInfo("confidence", True, "mean probability of the best token of each frame"),
        ScoreInfo("posterior", True, "share of the best hypothesis in the n-best list"),
    )
}


def check_score_names(names: Iterable[str]) -> None:
    """Refuse score names that the registry does not know.

    Arguments
    ---------
    names : iterable of str
        The names to check.

    Raises
    ------
    ValueError
        If a name is unknown; the message lists the known ones.

    Example
    -------
    >>> check_score_names(["entropy", "posterior"])
    """
    unknown = sorted(set(names) - set(SCORES))
    if unknown:
        raise ValueError(f"unknown exit score {', '.join(map(repr, unknown))}; known: {', '.join(SCORES)}")


def score_value(scores: Mapping[str, float | None], name: str) -> float:
    """One score of an exit that was looked at; null in a file is NaN.

    Arguments
    ---------
    scores : mapping of str to float
        All scores of the exit.
    name : str
        The one wanted.

    Returns
    -------
    float
        Its value.

    Raises
    ------
    ValueError
        If the score was not computed; the message lists those that were.

    Example
    -------
    >>> score_value({"entropy": 0.25, "posterior": None}, "posterior")
    nan
    """
    if name not in scores:
        known = ", ".join(scores) or "none"
        raise ValueError(f"exit score {name!r} was not computed here; choose one of: {known}")
    return math.nan if scores[name] is None else scores[name]


def compute_scores(log_probs: Tensor, lengths: Tensor, *, blank_index: int = 0) -> dict[str, Tensor]:
    """Score every utterance of a batch at one exit; padding is never looked at.

    Arguments
    ---------
    log_probs : Tensor
        (batch, frames, vocab) log-probabilities of an exit head.
    lengths : Tensor
        (batch,) number of valid frames, integers.
    blank_index : int
        Index of the CTC blank.

    Returns
    -------
    dict of str to Tensor
        (batch,) float32 values in [0, 1] for ``entropy``, ``entropy_nonblank`` and ``confidence``.
        NaN in a valid frame gives NaN, at which a policy never stops. An average over no frame
        at all is the least sure value (entropy 1, confidence 0). For ``entropy_nonblank`` that is
        the case where nothing was recognised: shallow exits lose words that deeper ones find, so
        silence is a reason to go on.

    Raises
    ------
    ValueError
        If a shape is wrong, lengths are relative, or the blank lies outside the vocabulary.

    Example
    -------
    >>> import torch
    >>> probs = torch.tensor([[[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]]])
    >>> scores = compute_scores(probs.log(), torch.tensor([2]))
    >>> {name: round(value.item(), 2) for name, value in scores.items()}
    {'entropy': 0.5, 'entropy_nonblank': 1.0, 'confidence': 0.75}
    """
    from speechbrain_ee.lobes.padding import padding_mask

    _check_inputs(log_probs, lengths, blank_index)
    log_probs = log_probs.float()
    max_log_prob, best = log_probs.max(dim=-1)  # (batch, frames)
    # 0 * log 0 is 0: the clamp keeps 0 * -inf from becoming NaN, and lets a real NaN through.
    entropy = -(log_probs.exp() * log_probs.clamp(min=-1e4)).sum(-1) / math.log(log_probs.shape[-1])
    entropy = entropy.clamp(0.0, 1.0)  # rounding: a uniform frame must not exceed 1
    valid = ~padding_mask(lengths.to(log_probs.device), log_probs.shape[1])
    return {
        "entropy": _mean(entropy, valid, if_empty=1.0),
        "entropy_nonblank": _mean(entropy, valid & (best != blank_index), if_empty=1.0),
        "confidence": _mean(max_log_prob.exp(), valid, if_empty=0.0),
    }


def _mean(values: Tensor, mask: Tensor, *, if_empty: float) -> Tensor:
    """Mean over frames, (batch, frames) -> (batch,).

    The sum is taken in float64 so that the number of padded frames, which changes the order of
    summation, does not change the float32 result.
    """
    total = values.double().masked_fill(~mask, 0.0).sum(-1)
    count = mask.sum(-1)
    return (total / count.clamp(min=1)).masked_fill(count == 0, if_empty).float()


def _check_inputs(log_probs: Tensor, lengths: Tensor, blank_index: int) -> None:
    from speechbrain_ee.lobes.padding import check_lengths

    if log_probs.dim() != 3 or log_probs.shape[-1] < 2:
        raise ValueError(
            f"log_probs must be (batch, frames, vocab) with a vocabulary of at least 2, got {tuple(log_probs.shape)}"
        )
    check_lengths(lengths, log_probs.shape[0])
    if not 0 <= blank_index < log_probs.shape[-1]:
        raise ValueError(f"blank_index {blank_index} lies outside the vocabulary; choose 0..{log_probs.shape[-1] - 1}")
