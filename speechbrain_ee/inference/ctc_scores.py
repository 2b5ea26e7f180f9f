# SPDX-License-Identifier: Apache-2.0
"""Exit scores of CTC log-probabilities, for a whole batch at once.

Sources: :mod:`speechbrain_ee.policies.scores`.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import groupby

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from speechbrain_ee.lobes.heads import ExitOutput
from speechbrain_ee.lobes.padding import check_lengths, padding_mask
from speechbrain_ee.policies.scores import COMPUTED, SCORES, check_score_names
from speechbrain_ee.special_tokens import BLANK_INDEX

ENTROPY_ORDER = 1 / 3  # of Tsallis and Renyi; below 1 weighs unlikely tokens more


def compute_scores(
    log_probs: Tensor,
    lengths: Tensor,
    *,
    blank_index: int = BLANK_INDEX,
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
        Index of the CTC blank; of the heads of another recipe it may lie elsewhere than of our own.
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
    averages = {name: kind for name in names if (kind := _AVERAGES.get(name))}
    found = _means(frames, averages)
    return {name: found[name] if name in found else _OTHERS[name](frames) for name in names}


def output_scores(
    output: ExitOutput,
    previous: ExitOutput | None,
    *,
    blank_index: int = BLANK_INDEX,
    names: Sequence[str] = COMPUTED,
) -> list[dict[str, float]]:
    """Scores of an exit's output as plain numbers.

    Arguments
    ---------
    output : ExitOutput
        What the exit gave.
    previous : ExitOutput | None
        What the exit before gave for the same utterances, None at the first.
    blank_index : int
        Index of the CTC blank; of the heads of another recipe it may lie elsewhere than of our own.
    names : sequence of str
        Which scores to compute.

    Returns
    -------
    list of dict
        One per utterance.
    """
    before = None if previous is None else previous.log_probs
    options = {"blank_index": blank_index, "previous": before, "names": names}
    table = {
        name: values.tolist() for name, values in compute_scores(output.log_probs, output.lengths, **options).items()
    }
    return [{name: values[row] for name, values in table.items()} for row in range(len(output.lengths))]


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
    def confidence(self) -> Tensor:
        return self.max_log_prob.exp()

    @cached_property
    def shannon(self) -> Tensor:
        # 0 * log 0 is 0: the clamp keeps 0 * -inf from becoming NaN, and lets a real NaN through.
        return (self.probs * self.log_probs.clamp(min=-1e4)).sum(-1) / -math.log(self.log_probs.shape[-1])

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
        return (self.probs - self.previous.exp()).abs().sum(-1) / 2

    @cached_property
    def tokens(self) -> list[list[int]]:
        return self._tokens(self.best)

    def _tokens(self, best: Tensor) -> list[list[int]]:
        """Best path of each utterance without repetitions and blanks."""
        paths = zip(best.tolist(), self.lengths.tolist(), strict=True)
        return [[token for token, _ in groupby(path[:length]) if token != self.blank_index] for path, length in paths]

    def agreement(self) -> Tensor:
        """1 - edit distance / longer length; two empty texts agree in nothing that would be sure: 0."""
        if self.previous is None:
            return torch.zeros_like(self.max_log_prob[:, 0])
        pairs = zip(self.tokens, self._tokens(self.previous.argmax(-1)), strict=True)
        return self._nan_where_frames_are(self.max_log_prob.new_tensor([_agreement(*pair) for pair in pairs]))

    def token_rate(self) -> Tensor:
        counts = self.max_log_prob.new_tensor([len(tokens) for tokens in self.tokens])
        return self._nan_where_frames_are(counts / self.lengths.to(counts).clamp(min=1))

    def confidence_min(self) -> Tensor:
        lowest = self.confidence.masked_fill(~self.valid, math.inf).amin(-1)
        return lowest.masked_fill(lowest == math.inf, 0.0)

    def _nan_where_frames_are(self, values: Tensor) -> Tensor:
        return values.masked_fill(self.has_nan, math.nan)

    @cached_property
    def has_nan(self) -> Tensor:
        frames = self.max_log_prob.isnan()
        if self.previous is not None:
            frames = frames | self.previous.isnan().any(-1)
        return (frames & self.valid).any(-1)


# Name: what is averaged, whether over the frames that are not blank only, value of an average over nothing.
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
    """Means over frames, all that share a mask at once.

    Sums are taken in float64 so that the number of padded frames, which changes the order of summation, does not change
    the float32 result; on the CPU, since some devices (Apple's) have no float64.
    """
    found = {}
    for only_nonblank, mask in ((False, frames.valid), (True, frames.nonblank)):
        rows = {name: kind for name, kind in averages.items() if kind[1] == only_nonblank}
        if not rows:
            continue
        values = torch.stack([getattr(frames, kind) for kind, _, _ in rows.values()])  # (rows, batch, frames)
        values = values.clamp(0.0, 1.0).masked_fill(~mask, 0.0)  # rounding: a uniform frame must not exceed 1
        count = mask.sum(-1)
        means = (values.cpu().double().sum(-1) / count.cpu().clamp(min=1)).float().to(values.device)
        empty = count == 0
        for (name, (_, _, if_empty)), mean in zip(rows.items(), means.unbind(), strict=True):
            # a frame of NaN has no best token: it might pass as blank
            found[name] = mean.masked_fill(empty, if_empty).masked_fill(frames.has_nan, math.nan)
    return found


def _agreement(a: list[int], b: list[int]) -> float:
    return Levenshtein.normalized_similarity(a, b) if a or b else 0.0


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
    decoded = [name for name in names if SCORES[name].from_decoder]
    if decoded:
        raise ValueError(f"exit score {decoded[0]!r} comes from {SCORES[decoded[0]].from_decoder}: decode with one")
