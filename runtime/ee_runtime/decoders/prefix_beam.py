# SPDX-License-Identifier: Apache-2.0
"""CTC prefix beam search without a language model.

Source: Graves and Jaitly, "Towards end-to-end speech recognition with recurrent neural networks", ICML 2014; Hannun et
al., arXiv 1408.2873, algorithm 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ee_runtime.decoders.base import N_BEST, Decoded, Decoder, frame_confidences, share_of_first
from ee_runtime.special_tokens import BLANK_INDEX, SPECIAL_TOKENS
from ee_runtime.text.ctc_paths import align
from ee_runtime.text.spans import greedy_spans
from ee_runtime.text.vocabulary import Vocabulary

ROOT = 0


class Hypothesis(NamedTuple):
    """A token sequence and its log-probability, summed over the CTC paths that the search kept."""

    tokens: list[int]
    log_prob: float


class PrefixBeamCTC(Decoder):
    """CTC prefix beam search: sums the probabilities of all paths of a text.

    Arguments
    ---------
    tokenizer : Vocabulary
        Converts token ids to text.
    beam_size : int
        Hypotheses kept after each frame; more = slower, rarely better above 50.
    beam_prune_logp : float
        Hypotheses whose log-probability is this far below the best one are dropped.
    token_prune_min_logp : float
        Tokens with a log-probability below this are skipped in a frame, except the best one.

    Raises
    ------
    ValueError
        If ``beam_size`` is below 1.

    Example
    -------
    >>> log_probs = np.log([[0.1, 0.0001, 0.0001, 0.8, 0.1], [0.1, 0.0001, 0.0001, 0.1, 0.8]])
    >>> search(log_probs, beam_size=4)[0].tokens
    [3, 4]
    """

    def __init__(
        self,
        tokenizer: Vocabulary,
        *,
        beam_size: int = 50,
        beam_prune_logp: float = -10.0,
        token_prune_min_logp: float = -5.0,
    ):
        if beam_size < 1:
            raise ValueError(f"beam_size is {beam_size}: give 1 or more")
        self.name = f"CTC beam {beam_size}"
        self.tokenizer = tokenizer
        self.options = {
            "beam_size": beam_size,
            "beam_prune_logp": beam_prune_logp,
            "token_prune_min_logp": token_prune_min_logp,
        }

    def decode(self, output) -> list[Decoded]:
        """See :meth:`Decoder.decode`; the score ``posterior`` is the text's share of the n-best list's probability.

        A posterior of exactly 1 means that a single hypothesis survived the pruning.
        """
        rows = zip(self.n_best(output), log_prob_rows(output), frame_confidences(output), strict=True)
        return [self._decoded(*row) for row in rows]

    def n_best(self, output) -> list[list[Hypothesis]]:
        """Return the best hypotheses of each utterance, the best one first; none if a frame is NaN."""
        output.check(self.tokenizer.vocab_size)
        return [[] if np.isnan(row).any() else search(row, **self.options) for row in log_prob_rows(output)]

    def _decoded(self, n_best: list[Hypothesis], log_probs: np.ndarray, confidences: list[float]) -> Decoded:
        if not n_best:
            return Decoded("", [], {"posterior": math.nan})
        tokens = n_best[0].tokens
        spans = greedy_spans(align(log_probs, tokens), confidences, self.tokenizer)
        posterior = share_of_first([one.log_prob for one in n_best])
        return Decoded(self.tokenizer.decode(tokens), spans, {"posterior": posterior})


def log_prob_rows(output) -> list[np.ndarray]:
    """Return the log-probabilities (frames, vocab) of each utterance, without padding, as float32 arrays."""
    log_probs = output.log_probs
    if not isinstance(log_probs, np.ndarray):
        log_probs = log_probs.detach().float().cpu().numpy()
    return [row[:frames] for row, frames in zip(log_probs, map(len, output.best_paths), strict=True)]


def search(
    log_probs: np.ndarray,
    *,
    beam_size: int,
    beam_prune_logp: float = -10.0,
    token_prune_min_logp: float = -5.0,
    n_best: int = N_BEST,
) -> list[Hypothesis]:
    """Search the most probable token sequences.

    Arguments
    ---------
    log_probs : np.ndarray
        (frames, vocab), without NaN.
    beam_size, beam_prune_logp, token_prune_min_logp
        See :class:`PrefixBeamCTC`.
    n_best : int
        Largest number of hypotheses to return.

    Returns
    -------
    list of Hypothesis
        The best one first.
    """
    tree, beams, scale = _Tree(), {ROOT: (1.0, 0.0)}, 0.0  # probabilities that end in the blank, and in the last token
    floor = math.exp(beam_prune_logp)
    for frame in log_probs:
        beams = _advance(tree, beams, _likely(frame, token_prune_min_logp))
        totals = sorted(((ending[0] + ending[1], node) for node, ending in beams.items()), reverse=True)[:beam_size]
        best = totals[0][0]
        if best <= 0:
            return []
        # Scaled, so that probabilities of long utterances remain representable.
        kept = [node for total, node in totals if total >= floor * best]
        beams = {node: (beams[node][0] / best, beams[node][1] / best) for node in kept}
        scale += math.log(best)
    totals = sorted(((sum(ending), node) for node, ending in beams.items()), reverse=True)[:n_best]
    return [Hypothesis(tree.tokens(node), scale + math.log(total)) for total, node in totals]


def _likely(frame: np.ndarray, min_logp: float) -> list[tuple[int, float]]:
    """Return the tokens of a frame that are probable enough, with their probabilities; BOS and EOS are never text."""
    tokens = np.flatnonzero(frame >= min(min_logp, frame.max()))
    pairs = zip(tokens.tolist(), np.exp(frame[tokens].astype(np.float64)).tolist(), strict=True)
    found = [(token, prob) for token, prob in pairs if token == BLANK_INDEX or token not in SPECIAL_TOKENS]
    return found or [(BLANK_INDEX, math.exp(frame[BLANK_INDEX]))]


def _advance(tree: _Tree, beams: dict[int, tuple[float, float]], likely: list[tuple[int, float]]) -> dict:
    found: dict[int, list[float]] = {}
    for node, (in_blank, in_token) in beams.items():
        total, last = in_blank + in_token, tree.last[node]
        for token, prob in likely:
            if token == BLANK_INDEX:
                found.setdefault(node, [0.0, 0.0])[0] += total * prob
                continue
            if token == last:  # the token goes on, or is said again after a blank
                found.setdefault(node, [0.0, 0.0])[1] += in_token * prob
                if in_blank == 0.0:
                    continue
            share = in_blank if token == last else total
            found.setdefault(tree.child(node, token), [0.0, 0.0])[1] += share * prob
    return found


class _Tree:
    """Token sequences as nodes of a tree."""

    def __init__(self):
        self.last, self.parent = [-1], [-1]
        self._children: dict[tuple[int, int], int] = {}

    def child(self, node: int, token: int) -> int:
        key = (node, token)
        if key not in self._children:
            self._children[key] = len(self.last)
            self.last.append(token)
            self.parent.append(node)
        return self._children[key]

    def tokens(self, node: int) -> list[int]:
        found = []
        while node != ROOT:
            found.append(self.last[node])
            node = self.parent[node]
        return found[::-1]
