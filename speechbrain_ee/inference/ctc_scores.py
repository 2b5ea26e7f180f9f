# SPDX-License-Identifier: Apache-2.0
"""Exit scores of CTC log-probabilities, for a whole batch at once.

Definitions and sources: :mod:`ee_runtime.policies.scores`.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ee_runtime.path_scores import path_scores
from ee_runtime.policies.scores import COMPUTED, SCORES, check_score_names
from ee_runtime.special_tokens import BLANK_INDEX
from speechbrain_ee.lobes.entropy import shannon_entropy
from speechbrain_ee.lobes.heads import ExitOutput
from speechbrain_ee.lobes.padding import check_lengths, padding_mask

ENTROPY_ORDER = 1 / 3  # of the Tsallis and Renyi entropies; below 1, unlikely tokens weigh more


def compute_scores(
    output: ExitOutput,
    previous: ExitOutput | None = None,
    *,
    blank_index: int = BLANK_INDEX,
    names: Sequence[str] = COMPUTED,
) -> dict[str, Tensor]:
    """Compute the exit scores of every utterance of a batch; padding has no influence.

    Arguments
    ---------
    output : ExitOutput
        Output of the exit.
    previous : ExitOutput | None
        Output of the exit before for the same utterances, with the same number of frames; None at the first exit.
    blank_index : int
        Index of the CTC blank, which may differ for heads of another recipe.
    names : sequence of str
        Scores to compute.

    Returns
    -------
    dict of str to Tensor
        (batch,) float32 values in [0, 1] by name. NaN in a valid frame gives NaN, at which a policy never stops. An
        average over no frames, and a comparison without a previous exit, give the least sure value. The ``_nonblank``
        scores are least sure if nothing was recognised: deeper exits may find words that a shallow exit misses.

    Raises
    ------
    ValueError
        If a shape is wrong, lengths are relative, the blank is outside the vocabulary, or a name is unknown or
        belongs to a score that a decoder computes.

    Example
    -------
    >>> import torch
    >>> output = ExitOutput(torch.tensor([[[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]]]).log(), torch.tensor([2]))
    >>> scores = compute_scores(output, names=["entropy", "entropy_nonblank", "confidence"])
    >>> {name: round(value.item(), 2) for name, value in scores.items()}
    {'entropy': 0.5, 'entropy_nonblank': 1.0, 'confidence': 0.75}
    """
    return dict(zip(names, score_table(output, previous, blank_index=blank_index, names=names).unbind(1), strict=True))


def output_scores(
    output: ExitOutput, previous: ExitOutput | None = None, *, names: Sequence[str] = COMPUTED
) -> list[dict[str, float]]:
    """Compute exit scores as :func:`compute_scores` does; return one dict of numbers per utterance."""
    return [dict(zip(names, row, strict=True)) for row in score_table(output, previous, names=names).tolist()]


def score_table(
    output: ExitOutput,
    previous: ExitOutput | None = None,
    *,
    blank_index: int = BLANK_INDEX,
    names: Sequence[str] = COMPUTED,
) -> Tensor:
    """Compute exit scores as :func:`compute_scores` does; return them as (batch, number of names).

    Example
    -------
    >>> import torch
    >>> output = ExitOutput(torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]).log(), torch.tensor([2]))
    >>> score_table(output, names=["entropy", "confidence_min"])
    tensor([[0.5000, 0.5000]])
    """
    _check_inputs(output, blank_index)
    _check_computable(names)
    if not names:
        return output.log_probs.new_zeros((len(output.lengths), 0))
    frames = _Frames(output, previous, blank_index)
    kinds = list(dict.fromkeys(_AVERAGES[name].kind for name in names if name in _AVERAGES))
    others = [name for name in names if name not in _AVERAGES]
    columns = [_Average(kind, over_nonblank) for over_nonblank in (False, True) for kind in kinds] + others
    table = ([_means(frames, kinds)] if kinds else []) + [_OTHERS[name](frames).unsqueeze(1) for name in others]
    order = [columns.index(_AVERAGES.get(name, name)) for name in names]
    return torch.cat(table, 1).index_select(1, torch.tensor(order, device=frames.log_probs.device))


class _Frames:
    """Frames of an exit, with values that several scores need, computed once."""

    def __init__(self, output: ExitOutput, previous: ExitOutput | None, blank_index: int):
        self.output, self.previous, self.blank_index = output, previous, blank_index
        self.log_probs = output.log_probs.float()
        self.valid = ~padding_mask(output.lengths.to(self.log_probs.device), self.log_probs.shape[1])
        self.max_log_prob, self.best = output.best  # (batch, frames)

    @cached_property
    def nonblank(self) -> Tensor:
        return self.valid & (self.best != self.blank_index)

    @cached_property
    def probs(self) -> Tensor:
        return self.log_probs.exp()

    @cached_property
    def confidence(self) -> Tensor:
        return self.max_log_prob.exp()

    @cached_property
    def shannon(self) -> Tensor:
        return shannon_entropy(self.log_probs, self.probs)

    @cached_property
    def _power_sum(self) -> Tensor:
        return (self.log_probs * ENTROPY_ORDER).exp().sum(-1)

    @cached_property
    def tsallis(self) -> Tensor:
        return (self._power_sum - 1) / (self.log_probs.shape[-1] ** (1 - ENTROPY_ORDER) - 1)

    @cached_property
    def renyi(self) -> Tensor:
        return self._power_sum.log() / ((1 - ENTROPY_ORDER) * math.log(self.log_probs.shape[-1]))

    @cached_property
    def change(self) -> Tensor:
        if self.previous is None:
            return self.confidence * 0 + 1  # NaN stays NaN
        return (self.probs - self.previous.log_probs.float().exp()).abs().sum(-1) / 2

    def agreement(self) -> Tensor:
        return self._of_paths("agreement")

    def token_rate(self) -> Tensor:
        return self._of_paths("token_rate")

    def _of_paths(self, name: str) -> Tensor:
        rows = path_scores(self.output, self.previous, [name], blank_index=self.blank_index)
        return self.max_log_prob.new_tensor([row[name] for row in rows])

    def confidence_min(self) -> Tensor:
        confidence = self.confidence.where(self.valid, 1.0)
        lowest = confidence.amin(-1) + confidence.sum(-1) * 0  # the minimum of onnxruntime is not NaN if one frame is
        return lowest * self.valid.any(-1)


class _Average(NamedTuple):
    """Average of a value of the frames, over all of them or over those whose best token is not blank."""

    kind: str
    over_nonblank: bool = False


_AVERAGES = {
    "entropy": _Average("shannon"),
    "entropy_nonblank": _Average("shannon", over_nonblank=True),
    "tsallis": _Average("tsallis"),
    "tsallis_nonblank": _Average("tsallis", over_nonblank=True),
    "renyi": _Average("renyi"),
    "renyi_nonblank": _Average("renyi", over_nonblank=True),
    "confidence": _Average("confidence"),
    "change": _Average("change"),
}
_OF_NO_FRAMES = {"confidence": 0.0}  # the least sure value; 1.0 for the others
_OTHERS = {
    "confidence_min": _Frames.confidence_min,
    "agreement": _Frames.agreement,
    "token_rate": _Frames.token_rate,
}


def _means(frames: _Frames, kinds: Sequence[str]) -> Tensor:
    """Average over all frames, then over nonblank frames, (batch, 2 * number of kinds).

    Sums are computed in float64, so that the number of padded frames, which changes the order of summation, does not
    change the float32 result. They are computed on the CPU, because some devices (Apple's) have no float64. NaN in a
    valid frame makes both sums NaN: NaN times 0 is NaN, and the best token of such a frame is undefined.
    """
    values = torch.stack([getattr(frames, kind) for kind in kinds], -1)  # (batch, frames, kinds)
    values = values.clamp(0.0, 1.0).where(frames.valid.unsqueeze(-1), 0.0)  # rounding must not exceed 1
    counted = torch.stack([frames.valid, frames.nonblank], 1).cpu().double()  # (batch, 2, frames)
    count = counted.sum(-1, keepdim=True)
    means = (counted @ values.cpu().double() / count.clamp(min=1)).float()
    if_empty = means.new_tensor([_OF_NO_FRAMES.get(kind, 1.0) for kind in kinds])
    return (means + (count == 0) * if_empty).flatten(1).to(values.device)


def _check_inputs(output: ExitOutput, blank_index: int) -> None:
    shape = output.log_probs.shape
    if len(shape) != 3 or shape[-1] < 2:
        raise ValueError(
            f"log_probs must be (batch, frames, vocab) with a vocabulary of at least 2, got {tuple(shape)}"
        )
    check_lengths(output.lengths, shape[0])
    if not 0 <= blank_index < shape[-1]:
        raise ValueError(f"blank_index {blank_index} lies outside the vocabulary; choose 0..{shape[-1] - 1}")


def _check_computable(names: Sequence[str]) -> None:
    check_score_names(names)
    decoded = [name for name in names if SCORES[name].from_decoder]
    if decoded:
        raise ValueError(f"exit score {decoded[0]!r} comes from {SCORES[decoded[0]].from_decoder}: decode with one")
