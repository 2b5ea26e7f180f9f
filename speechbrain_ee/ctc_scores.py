# SPDX-License-Identifier: Apache-2.0
"""Exit scores of CTC log-probabilities, for a whole batch at once; see :mod:`speechbrain_ee.scores` for the sources."""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby

from kaldialign import edit_distance
from torch import Tensor

from speechbrain_ee.lobes.padding import check_lengths, padding_mask
from speechbrain_ee.scores import COMPUTED, SCORES, check_score_names

ENTROPY_ORDER = 1 / 3  # of Tsallis and Renyi; below 1 weighs unlikely tokens more


def compute_scores(
    log_probs: Tensor,
    lengths: Tensor,
    *,
    blank_index: int = 0,
    previous: Tensor | None = None,
    names: Sequence[str] = COMPUTED,
) -> dict[str, Tensor]:
    """Score every utterance of a batch at one exit; padding is never looked at.

    Arguments
    ---------
    log_probs : Tensor
        (batch, frames, vocab) log-probabilities of an exit head.
    lengths : Tensor
        (batch,) number of valid frames, integers.
    blank_index : int
        Index of the CTC blank.
    previous : Tensor | None
        The same of the exit before, (batch, frames or more, vocab); None at the first exit.
    names : sequence of str
        Which scores to compute.

    Returns
    -------
    dict of str to Tensor
        (batch,) float32 values in [0, 1] by name. NaN in a valid frame gives NaN, at which a policy never stops. An
        average over no frame at all, and a comparison with no exit before, is the least sure value. For the
        ``_nonblank`` scores that is the case where nothing was recognised: shallow exits lose words that deeper ones
        find, so silence is a reason to go on.

    Raises
    ------
    ValueError
        If a shape is wrong, lengths are relative, the blank lies outside the vocabulary, or a name is unknown or
        comes from a beam search.

    Example
    -------
    >>> import torch
    >>> probs = torch.tensor([[[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]]])
    >>> scores = compute_scores(probs.log(), torch.tensor([2]), names=["entropy", "entropy_nonblank", "confidence"])
    >>> {name: round(value.item(), 2) for name, value in scores.items()}
    {'entropy': 0.5, 'entropy_nonblank': 1.0, 'confidence': 0.75}
    """
    _check_inputs(log_probs, lengths, blank_index)
    _check_computable(names)
    log_probs = log_probs.float()
    valid = ~padding_mask(lengths.to(log_probs.device), log_probs.shape[1])
    frames = _Frames(log_probs, lengths, valid, blank_index, previous)
    return {name: _COMPUTE[name](frames) for name in names}


class _Frames:
    """One exit's frames, and what several scores need of them, computed once."""

    def __init__(self, log_probs: Tensor, lengths: Tensor, valid: Tensor, blank_index: int, previous: Tensor | None):
        self.log_probs = log_probs
        self.lengths = lengths
        self.valid = valid
        self.blank_index = blank_index
        self.previous = None if previous is None else previous[:, : log_probs.shape[1]].float()
        self.max_log_prob, self.best = log_probs.max(dim=-1)  # (batch, frames)

    @cached_property
    def nonblank(self) -> Tensor:
        return self.valid & (self.best != self.blank_index)

    @cached_property
    def probs(self) -> Tensor:
        return self.log_probs.exp()

    @cached_property
    def shannon(self) -> Tensor:
        # 0 * log 0 is 0: the clamp keeps 0 * -inf from becoming NaN, and lets a real NaN through.
        entropy = -(self.probs * self.log_probs.clamp(min=-1e4)).sum(-1) / math.log(self.log_probs.shape[-1])
        return entropy.clamp(0.0, 1.0)  # rounding: a uniform frame must not exceed 1

    @cached_property
    def _power_sum(self) -> Tensor:
        return (self.log_probs * ENTROPY_ORDER).exp().sum(-1)

    @cached_property
    def tsallis(self) -> Tensor:
        largest = self.log_probs.shape[-1] ** (1 - ENTROPY_ORDER) - 1
        return ((self._power_sum - 1) / largest).clamp(0.0, 1.0)

    @cached_property
    def renyi(self) -> Tensor:
        entropy = self._power_sum.log() / (1 - ENTROPY_ORDER)
        return (entropy / math.log(self.log_probs.shape[-1])).clamp(0.0, 1.0)

    def tokens(self, best: Tensor) -> list[list[int]]:
        """Best path of each utterance without repetitions and blanks."""
        paths = zip(best.tolist(), self.lengths.tolist(), strict=True)
        return [[token for token, _ in groupby(path[:length]) if token != self.blank_index] for path, length in paths]

    @cached_property
    def own_tokens(self) -> list[list[int]]:
        return self.tokens(self.best)

    def least_sure(self, value: float) -> Tensor:
        return self.max_log_prob.new_full((len(self.max_log_prob),), value)

    def agreement(self) -> Tensor:
        """1 - edit distance / longer length; two empty texts agree in nothing that would be sure: 0."""
        if self.previous is None:
            return self.least_sure(0.0)
        pairs = zip(self.own_tokens, self.tokens(self.previous.argmax(-1)), strict=True)
        found = self.max_log_prob.new_tensor([_agreement(*pair) for pair in pairs])
        return found.masked_fill(self._has_nan, math.nan)

    def change(self) -> Tensor:
        if self.previous is None:
            return self.least_sure(1.0)
        distance = (self.probs - self.previous.exp()).abs().sum(-1) / 2
        return _mean(distance.clamp(max=1.0), self.valid, if_empty=1.0)

    def token_rate(self) -> Tensor:
        counts = self.max_log_prob.new_tensor([len(tokens) for tokens in self.own_tokens])
        return (counts / self.lengths.to(counts).clamp(min=1)).masked_fill(self._has_nan, math.nan)

    def confidence_min(self) -> Tensor:
        lowest = self.max_log_prob.exp().masked_fill(~self.valid, math.inf).amin(-1)
        return lowest.masked_fill(~self.valid.any(-1), 0.0)

    @cached_property
    def _has_nan(self) -> Tensor:
        return (self.max_log_prob.isnan() & self.valid).any(-1)


def _agreement(a: list[int], b: list[int]) -> float:
    longer = max(len(a), len(b))
    return 1.0 - edit_distance(a, b)["total"] / longer if longer else 0.0


_COMPUTE = {
    "entropy": lambda frames: _mean(frames.shannon, frames.valid, if_empty=1.0),
    "entropy_nonblank": lambda frames: _mean(frames.shannon, frames.nonblank, if_empty=1.0),
    "tsallis": lambda frames: _mean(frames.tsallis, frames.valid, if_empty=1.0),
    "tsallis_nonblank": lambda frames: _mean(frames.tsallis, frames.nonblank, if_empty=1.0),
    "renyi": lambda frames: _mean(frames.renyi, frames.valid, if_empty=1.0),
    "renyi_nonblank": lambda frames: _mean(frames.renyi, frames.nonblank, if_empty=1.0),
    "confidence": lambda frames: _mean(frames.max_log_prob.exp(), frames.valid, if_empty=0.0),
    "confidence_min": _Frames.confidence_min,
    "agreement": _Frames.agreement,
    "change": _Frames.change,
    "token_rate": _Frames.token_rate,
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
    if log_probs.dim() != 3 or log_probs.shape[-1] < 2:
        raise ValueError(
            f"log_probs must be (batch, frames, vocab) with a vocabulary of at least 2, got {tuple(log_probs.shape)}"
        )
    check_lengths(lengths, log_probs.shape[0])
    if not 0 <= blank_index < log_probs.shape[-1]:
        raise ValueError(f"blank_index {blank_index} lies outside the vocabulary; choose 0..{log_probs.shape[-1] - 1}")


def _check_computable(names: Sequence[str]) -> None:
    check_score_names(names)
    from_beam = [name for name in names if SCORES[name].needs_beam]
    if from_beam:
        raise ValueError(f"exit score {from_beam[0]!r} comes from a beam search: decode with one (--decoding beam)")
