# SPDX-License-Identifier: Apache-2.0
"""Exit scores of CTC log-probabilities, for a whole batch at once.

Definitions and sources: :mod:`ee_runtime.policies.scores`.
"""

import math
from collections.abc import Sequence
from functools import cached_property

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
    _check_inputs(output, blank_index)
    _check_computable(names)
    frames = _Frames(output, previous, blank_index)
    averages = {name: kind for name in names if (kind := _AVERAGES.get(name))}
    found = _means(frames, averages)
    return {name: found[name] if name in found else _OTHERS[name](frames) for name in names}


def output_scores(
    output: ExitOutput, previous: ExitOutput | None = None, *, names: Sequence[str] = COMPUTED
) -> list[dict[str, float]]:
    """Compute exit scores as :func:`compute_scores` does; return one dict of numbers per utterance."""
    table = {name: values.tolist() for name, values in compute_scores(output, previous, names=names).items()}
    return [{name: values[row] for name, values in table.items()} for row in range(len(output.lengths))]


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
            return torch.ones_like(self.max_log_prob)
        return (self.probs - self.previous.log_probs.float().exp()).abs().sum(-1) / 2

    def agreement(self) -> Tensor:
        return self._of_paths("agreement")

    def token_rate(self) -> Tensor:
        return self._of_paths("token_rate")

    def _of_paths(self, name: str) -> Tensor:
        rows = path_scores(self.output, self.previous, [name], blank_index=self.blank_index)
        return self.max_log_prob.new_tensor([row[name] for row in rows])

    def confidence_min(self) -> Tensor:
        lowest = self.confidence.masked_fill(~self.valid, math.inf).amin(-1)
        return lowest.masked_fill(lowest == math.inf, 0.0)

    @cached_property
    def has_nan(self) -> Tensor:
        frames = self.max_log_prob.isnan()
        if self.previous is not None:
            frames = frames | self.previous.best[0].isnan()
        return (frames & self.valid).any(-1)


# Name: averaged value, whether over nonblank frames only, value of an average over no frames.
_AVERAGES = {
    "entropy": ("shannon", False, 1.0),
    "entropy_nonblank": ("shannon", True, 1.0),
    "tsallis": ("tsallis", False, 1.0),
    "tsallis_nonblank": ("tsallis", True, 1.0),
    "renyi": ("renyi", False, 1.0),
    "renyi_nonblank": ("renyi", True, 1.0),
    "confidence": ("confidence", False, 0.0),
    "change": ("change", False, 1.0),
}
_OTHERS = {
    "confidence_min": _Frames.confidence_min,
    "agreement": _Frames.agreement,
    "token_rate": _Frames.token_rate,
}


def _means(frames: _Frames, averages: dict[str, tuple[str, bool, float]]) -> dict[str, Tensor]:
    """Average over frames; scores with the same mask are averaged together.

    Sums are computed in float64, so that the number of padded frames, which changes the order of summation, does not
    change the float32 result. They are computed on the CPU, because some devices (Apple's) have no float64.
    """
    found = {}
    for only_nonblank, mask in ((False, frames.valid), (True, frames.nonblank)):
        rows = {name: kind for name, kind in averages.items() if kind[1] == only_nonblank}
        if not rows:
            continue
        values = torch.stack([getattr(frames, kind) for kind, _, _ in rows.values()])  # (rows, batch, frames)
        values = values.clamp(0.0, 1.0).masked_fill(~mask, 0.0)  # rounding must not lift a uniform frame above 1
        count = mask.sum(-1)
        means = (values.cpu().double().sum(-1) / count.cpu().clamp(min=1)).float().to(values.device)
        if_empty = means.new_tensor([[value] for _, _, value in rows.values()])
        means = torch.where(count == 0, if_empty, means)
        # the best token of a NaN frame is undefined and may be the blank
        found |= zip(rows, means.masked_fill(frames.has_nan, math.nan), strict=True)
    return found


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
