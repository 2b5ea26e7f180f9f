# SPDX-License-Identifier: Apache-2.0
"""Searches over an attention decoder that keeps what it has read: greedy, beam, and texts that it is told.

SpeechBrain's searchers run the whole text through the decoder for every token, and go by the padded length of a batch.
Here keys and values are kept, and an utterance goes by its own length; a test compares with SpeechBrain's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from speechbrain.decoders.seq2seq import S2SBeamSearcher

from speechbrain_ee.lobes.attention_decoder import AttentionDecoder, DecoderState
from speechbrain_ee.special_tokens import BOS_INDEX, EOS_INDEX

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import ExitOutput

# A phrase that repeats more often than this in a row is a loop, where the text is longer than CTC's makes likely.
MAX_REPEATS = 6
MAX_PERIOD = 40  # tokens of a phrase that may repeat


@dataclass(frozen=True)
class Hypothesis:
    """What an attention decoder said of one utterance.

    Arguments
    ---------
    tokens : list of int
        Without BOS and EOS.
    log_probs : list of float
        Of each token, and of EOS where the text ended by itself.
    entropies : list of float
        Of the decoder before each of them, over log(vocabulary size).
    macs : int
        What the decoder spent.
    is_cut : bool
        Whether a loop was cut off, or the limit reached: such a text is not to be trusted.
    """

    tokens: list[int]
    log_probs: list[float]
    entropies: list[float]
    macs: int
    is_cut: bool = False


@dataclass(frozen=True)
class Limit:
    """How long a text may be.

    Arguments
    ---------
    max_tokens : int
        Never more than these.
    likely_tokens : int
        Up to here a phrase may repeat as often as it likes: people do say such things.
    """

    max_tokens: int
    likely_tokens: int

    @classmethod
    def of(cls, max_tokens: int, num_ctc_tokens: int) -> Limit:
        """The limit of an utterance in which CTC hears ``num_ctc_tokens``."""
        return cls(max_tokens, min(max_tokens, 10 + num_ctc_tokens + num_ctc_tokens // 2))


@torch.no_grad()
def greedy_search(output: ExitOutput, limits: Sequence[Limit]) -> list[Hypothesis]:
    """Search greedily in a batch, whose utterances leave it as they end.

    Arguments
    ---------
    output : ExitOutput
        Of an exit with a decoder.
    limits : sequence of Limit
        Of each utterance.

    Returns
    -------
    list of Hypothesis
        One per utterance.
    """
    attention_decoder = output.attention_decoder
    growing = [Growing(limit) for limit in limits]
    state = attention_decoder.start(output.state, output.lengths)
    alive = list(range(len(growing)))
    tokens = torch.full((len(alive), 1), BOS_INDEX, device=output.state.device)
    while alive:
        state, log_probs = attention_decoder.advance(state, tokens)
        log_probs = log_probs[:, -1]
        best = log_probs.max(-1)
        rows = zip(alive, best.indices.tolist(), best.values.tolist(), entropies_of(log_probs), strict=True)
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


class Growing:
    """A text under way."""

    def __init__(self, limit: Limit):
        self.limit, self.num_read, self.is_cut = limit, 0, False
        self.tokens, self.log_probs, self.entropies = [], [], []

    def read(self, token: int, log_prob: float, entropy: float) -> bool:
        """Take note of what the decoder says; whether the text goes on."""
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
        """The text at its end, for which the decoder has spent ``macs``."""
        tokens = cut_loop(self.tokens, self.limit)
        count = len(self.log_probs) if len(tokens) == len(self.tokens) else len(tokens)
        return Hypothesis(tokens, self.log_probs[:count], self.entropies[:count], macs, self.is_cut)


def ends_in_loop(tokens: Sequence[int], limit: Limit) -> bool:
    """Whether a text is longer than is likely, and ends in a phrase that it says again and again."""
    return len(tokens) > limit.likely_tokens and loop_period(tokens) is not None


def loop_period(tokens: Sequence[int]) -> int | None:
    """Length of the phrase that the text ends in more than :data:`MAX_REPEATS` times in a row, None if there is none.

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
    """End a text where it begins to loop, after the first time that the phrase is said.

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


def entropies_of(log_probs: torch.Tensor) -> list[float]:
    """Shannon entropy of each row over log(vocabulary size)."""
    terms = log_probs.exp() * log_probs.clamp(min=-1e4)
    return (terms.sum(-1) / -math.log(log_probs.shape[-1])).tolist()


@torch.no_grad()
def told_texts(
    attention_decoder: AttentionDecoder, state: DecoderState, texts: Sequence[list[int]]
) -> list[Hypothesis]:
    """What the decoder says of texts that it is told, read in one pass.

    Arguments
    ---------
    attention_decoder : AttentionDecoder
        Of the exit.
    state : DecoderState
        Just started, of one utterance.
    texts : sequence of list of int
        Without BOS and EOS.

    Returns
    -------
    list of Hypothesis
        One per text; the utterance's start is not in their ``macs``.
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
        found.append(Hypothesis(text, of_targets.tolist(), entropies_of(own), macs))
    return found


class BeamSearcher(S2SBeamSearcher):
    """SpeechBrain's beam search over our decoder, which keeps what it has read."""

    def __init__(self, output: ExitOutput, max_tokens: int, **options):
        super().__init__(BOS_INDEX, EOS_INDEX, 0.0, 1.0, using_eos_threshold=False, **options)
        self.attention_decoder, self.max_tokens = output.attention_decoder, max_tokens
        self.vocab_size = output.log_probs.shape[-1]
        self.start = output.attention_decoder.start(output.state, output.lengths)
        self.steps = 0

    def set_n_out(self):
        """Size of the vocabulary."""
        return self.vocab_size

    def change_max_decoding_length(self, min_decode_steps, max_decode_steps):
        """Steps at least and at most."""
        return 0, self.max_tokens + 1  # the last one is EOS, or taken for it

    def reset_mem(self, batch_size, device):
        """Where every hypothesis starts."""
        return self.start.select(torch.zeros(batch_size, dtype=torch.long, device=device))

    def permute_mem(self, memory, index):
        """Memory of the hypotheses that go on."""
        return memory.select(index)

    def forward_step(self, inp_tokens, memory, enc_states, enc_lens):
        """One token more for every hypothesis."""
        self.steps += 1
        memory, log_probs = self.attention_decoder.advance(memory, inp_tokens.unsqueeze(1))
        return log_probs[:, -1], memory, None
