# SPDX-License-Identifier: Apache-2.0
"""Greedy search, beam search and scoring of given texts with an attention decoder that caches keys and values.

SpeechBrain's searchers run the whole text through the attention decoder for every token, and depend on the padded
length of the batch. The searches here keep keys and values, and an utterance depends on its own length only. A test
compares their results with SpeechBrain's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from speechbrain.decoders.seq2seq import S2SBeamSearcher

from ee_runtime.special_tokens import BOS_INDEX, EOS_INDEX
from speechbrain_ee.decoders.entropy import shannon_entropy
from speechbrain_ee.lobes.attention_decoder import AttentionDecoder, DecoderState

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import ExitOutput

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


@torch.no_grad()
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
    attention_decoder = output.attention_decoder
    growing = [GrowingText(limit) for limit in limits]
    state = attention_decoder.start(output.state, output.lengths)
    alive = list(range(len(growing)))
    tokens = torch.full((len(alive), 1), BOS_INDEX, device=output.state.device)
    while alive:
        state, log_probs = attention_decoder.advance(state, tokens)
        log_probs = log_probs[:, -1]
        best = log_probs.max(-1)
        rows = zip(alive, best.indices.tolist(), best.values.tolist(), shannon_entropy(log_probs).tolist(), strict=True)
        kept = [place for place, row in enumerate(rows) if growing[row[0]].read(*row[1:])]
        if not kept:
            break
        tokens = best.indices.unsqueeze(1)
        if len(kept) < len(alive):
            index = torch.tensor(kept, device=tokens.device)
            state, tokens, alive = state.select(index), tokens[index], [alive[place] for place in kept]
    macs = [
        attention_decoder.start_macs(frames) + attention_decoder.text_macs(frames, one.num_read)
        for one, frames in zip(growing, output.lengths.tolist(), strict=True)
    ]
    return [one.hypothesis(spent) for one, spent in zip(growing, macs, strict=True)]


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


@torch.no_grad()
def score_texts(
    attention_decoder: AttentionDecoder, state: DecoderState, texts: Sequence[list[int]]
) -> list[Hypothesis]:
    """Score given texts with the attention decoder in one pass.

    Arguments
    ---------
    attention_decoder : AttentionDecoder
        The attention decoder of the exit.
    state : DecoderState
        Its state after ``start`` on one utterance.
    texts : sequence of list of int
        Tokens without BOS and EOS.

    Returns
    -------
    list of Hypothesis
        One per text; their ``macs`` do not include ``start``.
    """
    num_frames, device = state.memory[0][0].shape[2], state.memory[0][0].device
    longest = max(map(len, texts))
    rows = [[BOS_INDEX, *text, *[EOS_INDEX] * (longest - len(text))] for text in texts]
    state = state.select(torch.zeros(len(texts), dtype=torch.long, device=device))
    _, log_probs = attention_decoder.advance(state, torch.tensor(rows, device=device))
    found = []
    for text, own in zip(texts, log_probs, strict=True):
        own = own[: len(text) + 1]
        of_targets = own.gather(-1, torch.tensor([*text, EOS_INDEX], device=device).unsqueeze(-1)).squeeze(-1)
        macs = attention_decoder.text_macs(num_frames, len(text) + 1)
        found.append(Hypothesis(text, of_targets.tolist(), shannon_entropy(own).tolist(), macs))
    return found


class BeamSearcher(S2SBeamSearcher):
    """SpeechBrain's beam search of one utterance over an attention decoder that caches keys and values."""

    def __init__(self, output: ExitOutput, max_tokens: int, **options):
        super().__init__(BOS_INDEX, EOS_INDEX, 0.0, 1.0, using_eos_threshold=False, **options)
        self.attention_decoder, self.max_tokens = output.attention_decoder, max_tokens
        self.vocab_size = output.log_probs.shape[-1]
        self.start = output.attention_decoder.start(output.state, output.lengths)
        self.steps = 0

    def set_n_out(self):
        """Return the size of the vocabulary."""
        return self.vocab_size

    def change_max_decoding_length(self, min_decode_steps, max_decode_steps):
        """Return the smallest and the largest number of steps."""
        return 0, self.max_tokens + 1  # the last step is for EOS

    def reset_mem(self, batch_size, device):
        """Return the state of all hypotheses before the first token."""
        return self.start.select(torch.zeros(batch_size, dtype=torch.long, device=device))

    def permute_mem(self, memory, index):
        """Return the state of the hypotheses that continue."""
        return memory.select(index)

    def forward_step(self, inp_tokens, memory, enc_states, enc_lens):
        """Read one more token of every hypothesis."""
        self.steps += 1
        memory, log_probs = self.attention_decoder.advance(memory, inp_tokens.unsqueeze(1))
        return log_probs[:, -1], memory, None
