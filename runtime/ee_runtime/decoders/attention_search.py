# SPDX-License-Identifier: Apache-2.0
"""Greedy search and scoring of given texts with an attention decoder that keeps keys and values.

An utterance depends on its own length only. A test compares the results with those of SpeechBrain's searchers, which
run the whole text through the attention decoder for every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ee_runtime.backend import AttentionRun, ExitOutput
from ee_runtime.special_tokens import BOS_INDEX, EOS_INDEX

# A phrase that repeats more often than this is a loop, if the text is longer than is likely given the CTC text.
MAX_REPEATS = 6
MAX_PERIOD = 40  # largest number of tokens in a repeated phrase


@dataclass(frozen=True)
class Hypothesis:
    """Text of one utterance by an attention decoder.

    Arguments
    ---------
    tokens : list of int
        Tokens without BOS and EOS.
    log_probs : list of float
        Log-probability of each token, and of EOS if the text ended with it.
    entropies : list of float
        Normalised entropy of the attention decoder's output for each of them.
    macs : int
        Multiply-accumulates of the attention decoder.
    is_cut : bool
        Whether a loop was cut off or the limit was reached; such a text is unreliable.
    """

    tokens: list[int]
    log_probs: list[float]
    entropies: list[float]
    macs: int
    is_cut: bool = False


@dataclass(frozen=True)
class Limit:
    """Length limit of a text.

    Arguments
    ---------
    max_tokens : int
        Largest number of tokens.
    likely_tokens : int
        Up to this number of tokens, a phrase may repeat any number of times, as people do repeat themselves.
    """

    max_tokens: int
    likely_tokens: int

    @classmethod
    def of(cls, max_tokens: int, num_ctc_tokens: int) -> Limit:
        """Make the limit of an utterance whose CTC text has ``num_ctc_tokens``."""
        return cls(max_tokens, min(max_tokens, 10 + num_ctc_tokens + num_ctc_tokens // 2))


def greedy_search(output: ExitOutput, limits: Sequence[Limit]) -> list[Hypothesis]:
    """Search greedily in a batch; an utterance leaves the batch when its text ends.

    Arguments
    ---------
    output : ExitOutput
        Output of an exit with an attention decoder.
    limits : sequence of Limit
        Length limit of each utterance.

    Returns
    -------
    list of Hypothesis
        One per utterance.
    """
    run, growing = output.start_attention(), [GrowingText(limit) for limit in limits]
    alive = list(range(len(growing)))
    tokens = [[BOS_INDEX] for _ in alive]
    while alive:
        found = run.read(tokens)
        tokens = found.best_tokens.tolist()
        rows = zip(alive, tokens, found.best_log_probs.tolist(), found.entropies.tolist(), strict=True)
        kept = [
            place
            for place, (position, (token,), (log_prob,), (entropy,)) in enumerate(rows)
            if growing[position].read(token, log_prob, entropy)
        ]
        if kept and len(kept) < len(alive):
            run.keep(kept)
        alive, tokens = [alive[place] for place in kept], [tokens[place] for place in kept]
    cost = output.attention_decoder.cost
    return [
        one.hypothesis(cost.start_macs(frames) + cost.text_macs(frames, one.num_read))
        for one, frames in zip(growing, output.lengths.tolist(), strict=True)
    ]


class GrowingText:
    """A text that grows token by token."""

    def __init__(self, limit: Limit):
        self.limit, self.num_read, self.is_cut = limit, 0, False
        self.tokens, self.log_probs, self.entropies = [], [], []

    def read(self, token: int, log_prob: float, entropy: float) -> bool:
        """Append a token; return whether the text continues."""
        self.num_read += 1
        if len(self.tokens) >= self.limit.max_tokens and token != EOS_INDEX:
            self.is_cut = True
            return False
        self.log_probs.append(log_prob)
        self.entropies.append(entropy)
        if token == EOS_INDEX:
            return False
        self.tokens.append(token)
        self.is_cut = ends_in_loop(self.tokens, self.limit)
        return not self.is_cut

    def hypothesis(self, macs: int) -> Hypothesis:
        """Return the finished text, for which the attention decoder has used ``macs``."""
        tokens = cut_loop(self.tokens, self.limit)
        count = len(self.log_probs) if len(tokens) == len(self.tokens) else len(tokens)
        return Hypothesis(tokens, self.log_probs[:count], self.entropies[:count], macs, self.is_cut)


def ends_in_loop(tokens: Sequence[int], limit: Limit) -> bool:
    """Return whether a text is longer than is likely and ends in a loop, see :func:`loop_period`."""
    return len(tokens) > limit.likely_tokens and loop_period(tokens) is not None


def loop_period(tokens: Sequence[int]) -> int | None:
    """Return the length of the phrase that ends the text more than :data:`MAX_REPEATS` times in a row, or None.

    Example
    -------
    >>> loop_period([7, *[5, 6] * 7]), loop_period([5, 6] * 6)
    (2, None)
    """
    for period in range(1, min(MAX_PERIOD, len(tokens) // (MAX_REPEATS + 1)) + 1):
        if all(tokens[-i] == tokens[-i - period] for i in range(1, period * MAX_REPEATS + 1)):
            return period
    return None


def cut_loop(tokens: list[int], limit: Limit) -> list[int]:
    """Cut a text where it begins to loop, after the first occurrence of the repeated phrase.

    Example
    -------
    >>> cut_loop([7, *[5, 6] * 9, 8], Limit(max_tokens=99, likely_tokens=10))
    [7, 5, 6]
    >>> len(cut_loop([7, *[5, 6] * 9, 8], Limit(max_tokens=99, likely_tokens=20)))
    20
    """
    for length in range(limit.likely_tokens + 1, len(tokens) + 1):
        period = loop_period(tokens[:length])
        if period is not None:
            start = length - period * (MAX_REPEATS + 1)
            while start > 0 and tokens[start - 1] == tokens[start - 1 + period]:
                start -= 1
            return tokens[: start + period]
    return tokens


def score_texts(output: ExitOutput, run: AttentionRun, texts: Sequence[list[int]]) -> list[Hypothesis]:
    """Score given texts with the attention decoder in one pass.

    Arguments
    ---------
    output : ExitOutput
        Output of an exit with an attention decoder for one utterance.
    run : AttentionRun
        The attention decoder, started on that output.
    texts : sequence of list of int
        Tokens without BOS and EOS.

    Returns
    -------
    list of Hypothesis
        One per text; their ``macs`` do not include the start of the attention decoder.
    """
    cost, (num_frames,) = output.attention_decoder.cost, output.lengths.tolist()
    longest = max(map(len, texts))
    run.keep([0] * len(texts))
    found = run.read([[BOS_INDEX, *text, *[EOS_INDEX] * (longest - len(text))] for text in texts])
    scored = []
    for text, log_probs, entropies in zip(texts, found.log_probs, found.entropies.tolist(), strict=True):
        targets = [*text, EOS_INDEX]
        of_targets = log_probs[list(range(len(targets))), targets].tolist()
        macs = cost.text_macs(num_frames, len(targets))
        scored.append(Hypothesis(text, of_targets, entropies[: len(targets)], macs))
    return scored
