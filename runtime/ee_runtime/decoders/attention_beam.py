# SPDX-License-Identifier: Apache-2.0
"""Joint CTC/attention beam search in NumPy.

It computes what SpeechBrain's ``S2SBeamSearcher`` with a ``CTCScorer`` computes for one utterance; a test compares the
two. Source: Watanabe et al., "Hybrid CTC/attention architecture for end-to-end speech recognition", 2017, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ee_runtime.backend import AttentionRun
from ee_runtime.special_tokens import BLANK_INDEX, BOS_INDEX, EOS_INDEX

IMPOSSIBLE = np.float32(-1e20)  # as in SpeechBrain; finite, so that differences are numbers


class PrefixScores:
    """Log-probability of every next token by CTC, for the texts of a beam.

    Arguments
    ---------
    log_probs : np.ndarray
        CTC log-probabilities of one utterance, (frames, vocab).
    beam_size : int
        Number of texts, which are all empty at first.

    Example
    -------
    >>> log_probs = np.log([[0.5, 0.0, 0.0, 0.5], [0.5, 0.0, 0.0, 0.5]] + np.float32(1e-9)).astype(np.float32)
    >>> np.exp(PrefixScores(log_probs, 1).next([BOS_INDEX])).round(2)  # token 3 in a frame; nothing in both frames
    array([[0.  , 0.  , 0.25, 0.75]], dtype=float32)
    """

    def __init__(self, log_probs: np.ndarray, beam_size: int):
        self.log_probs, self.num_tokens = log_probs, 0
        # Log-probabilities of a text after each frame, ending in its last token or in a blank: (frames, 2, texts).
        self.ending = np.full((len(log_probs), 2, beam_size), IMPOSSIBLE)
        self.ending[:, 1] = np.cumsum(log_probs[:, BLANK_INDEX])[:, None]
        self.of_text = np.zeros((beam_size, 1), np.float32)

    def next(self, last: Sequence[int]) -> np.ndarray:
        """Return the log-probability of every next token, (texts, vocab), of texts with these last tokens."""
        either = np.logaddexp(self.ending[:, 0], self.ending[:, 1])
        before = np.repeat(either[:, :, None], self.log_probs.shape[1], 2)  # (frames, texts, vocab)
        texts = np.arange(len(last))
        before[:, texts, last] = self.ending[:, 1]  # a token is repeated after a blank only
        self._extended = self._extend(before)
        start = max(1, self.num_tokens)
        steps = before[start - 1 : -1] + self.log_probs[start:, None]
        totals = np.logaddexp.reduce(np.concatenate([self._extended[start - 1 : start, 0], steps]), 0)
        totals[:, EOS_INDEX] = either[-1]
        totals[:, BLANK_INDEX] = IMPOSSIBLE
        self._totals = totals
        return totals - self.of_text

    def _extend(self, before: np.ndarray) -> np.ndarray:
        """Return ``ending`` of every text with every next token, (frames, 2, texts, vocab)."""
        extended = np.full((len(before), 2, *before.shape[1:]), IMPOSSIBLE)
        if self.num_tokens == 0:
            extended[0, 0] = self.log_probs[0]
        for frame in range(max(1, self.num_tokens), len(before)):
            in_token, in_blank = extended[frame - 1]
            extended[frame, 0] = np.logaddexp(in_token, before[frame - 1]) + self.log_probs[frame]
            extended[frame, 1] = np.logaddexp(in_token, in_blank) + self.log_probs[frame, BLANK_INDEX]
        return extended

    def keep(self, texts: Sequence[int], tokens: Sequence[int]) -> None:
        """Continue with texts of the beam, each extended by a token."""
        self.ending, self.num_tokens = self._extended[:, :, texts, tokens], self.num_tokens + 1
        self.of_text = self._totals[texts, tokens][:, None]


def beam_search(
    run: AttentionRun, log_probs: np.ndarray, *, max_tokens: int, beam_size: int, ctc_weight: float
) -> tuple[list[int], int]:
    """Search the best text of one utterance.

    Arguments
    ---------
    run : AttentionRun
        The attention decoder, started on one utterance.
    log_probs : np.ndarray
        CTC log-probabilities, (frames, vocab).
    max_tokens : int
        Largest number of tokens.
    beam_size : int
        Texts kept after each token.
    ctc_weight : float
        Weight of CTC; the attention decoder has the rest.

    Returns
    -------
    tuple
        The tokens, without BOS and EOS, and the number of passes of the attention decoder.
    """
    vocab, finished = log_probs.shape[1], []
    ctc = PrefixScores(log_probs, beam_size) if ctc_weight else None
    totals = np.full(beam_size, -np.inf, np.float32)
    totals[0] = 0.0  # the other texts are the same
    texts, tokens = [[] for _ in totals], [BOS_INDEX] * beam_size
    run.keep([0] * beam_size)
    for step in range(1, max_tokens + 2):  # the last step is for EOS
        scores = np.float32(1 - ctc_weight) * np.asarray(run.read([[token] for token in tokens]).log_probs)[:, -1]
        if ctc is not None:
            scores[:, BLANK_INDEX] = IMPOSSIBLE
            scores += np.float32(ctc_weight) * ctc.next(tokens)
        candidates = ((totals[:, None] + scores) / np.float32(step)).ravel()
        best = np.argsort(-candidates, kind="stable")[:beam_size]
        rows, tokens = (best // vocab).tolist(), (best % vocab).tolist()
        means, texts = candidates[best], [[*texts[row], token] for row, token in zip(rows, tokens, strict=True)]
        totals = np.where(np.array(tokens) == EOS_INDEX, np.float32(-np.inf), means * np.float32(step))
        finished += [(mean, text) for mean, text in zip(means, texts, strict=True) if text[-1] == EOS_INDEX]
        if len(finished) >= beam_size:
            break
        run.keep(rows)
        if ctc is not None:
            ctc.keep(rows, tokens)
    finished = [*finished, *zip(means, texts, strict=True)][:beam_size]  # texts that are cut, if there is room
    return max(finished, key=lambda pair: pair[0])[1][:-1], step
