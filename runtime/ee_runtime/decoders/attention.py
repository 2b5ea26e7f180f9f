# SPDX-License-Identifier: Apache-2.0
"""Decoding with an exit's attention decoder: greedy, joint CTC/attention beam, and rescoring of CTC hypotheses.

At an exit without an attention decoder, each class uses its CTC counterpart. A text has at most ``max_decode_ratio``
tokens per encoder frame. A phrase that repeats endlessly is cut if the text is much longer than the CTC text.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ee_runtime.backend import AttentionRun, ExitOutput
from ee_runtime.decoders.alignment import align_words
from ee_runtime.decoders.attention_beam import beam_search
from ee_runtime.decoders.attention_search import Hypothesis, Limit, cut_loop, greedy_search, score_texts
from ee_runtime.decoders.base import Decoded, Decoder, best_tokens
from ee_runtime.decoders.greedy import GreedyCTC
from ee_runtime.decoders.speculation import speculative_search
from ee_runtime.policies.scores import FROM_ATTENTION
from ee_runtime.text.agreement import token_agreement
from ee_runtime.text.vocabulary import Vocabulary


class AttentionDecoding(Decoder):
    """Shared part of attention decoding: length limits, and the conversion of tokens to text and words."""

    ctc: Decoder  # decodes exits without an attention decoder

    def __init__(self, tokenizer: Vocabulary, max_decode_ratio: float):
        if not max_decode_ratio > 0:
            raise ValueError(f"max_decode_ratio={max_decode_ratio}: give a number above 0, tokens per encoder frame")
        self.tokenizer = tokenizer
        self.max_decode_ratio = max_decode_ratio

    def limits(self, output: ExitOutput, ctc_tokens: Sequence[list[int]]) -> list[Limit]:
        """Return the length limit of each text, given the tokens of the CTC texts."""
        most = [
            min(int(self.max_decode_ratio * frames), output.attention_decoder.max_length - 1)
            for frames in output.lengths.tolist()
        ]
        return [Limit.of(tokens, len(ctc)) for tokens, ctc in zip(most, ctc_tokens, strict=True)]

    def decode(self, output: ExitOutput) -> list[Decoded]:
        """See :meth:`Decoder.decode`; words are aligned to frames with the CTC head."""
        output.check(self.tokenizer.vocab_size)
        ctc_tokens = best_tokens(output)
        if output.attention_decoder is None:
            unknown = dict.fromkeys(FROM_ATTENTION, math.nan)
            return [
                replace(one, scores=one.scores | unknown, ctc_text=self.tokenizer.decode(ctc))
                for one, ctc in zip(self.ctc.decode(output), ctc_tokens, strict=True)
            ]
        rows = [output.row(row) for row in range(len(ctc_tokens))]
        hypotheses = self.search(output, rows, ctc_tokens)
        return [self._decoded(*one) for one in zip(rows, hypotheses, ctc_tokens, strict=True)]

    @abstractmethod
    def search(
        self, output: ExitOutput, rows: Sequence[ExitOutput], ctc_tokens: Sequence[list[int]]
    ) -> list[Hypothesis]:
        """Search the best text of each utterance.

        Arguments
        ---------
        output : ExitOutput
            Output of an exit with an attention decoder.
        rows : sequence of ExitOutput
            The same, one utterance each, without padding.
        ctc_tokens : sequence of list of int
            Tokens of the CTC texts.
        """

    def _decoded(self, output: ExitOutput, hypothesis: Hypothesis, ctc_tokens: list[int]) -> Decoded:
        tokens = hypothesis.tokens
        probs = [math.exp(one) for one in hypothesis.log_probs[: len(tokens)]]
        return Decoded(
            text=self.tokenizer.decode(tokens),
            spans=align_words(output, tokens, probs, self.tokenizer),
            scores=_scores(hypothesis, ctc_tokens),
            macs=hypothesis.macs,
            ctc_text=self.tokenizer.decode(ctc_tokens),
        )


class GreedyAttention(AttentionDecoding):
    """Greedy search: takes the attention decoder's best token, one after the other, until EOS.

    With ``draft`` (speculative decoding), the attention decoder checks several tokens of the CTC text in one pass and
    continues alone where it disagrees. The text is the same, and one utterance is decoded faster. Without it, the whole
    batch is decoded token by token, which is faster for large batches.

    Arguments
    ---------
    tokenizer : Vocabulary
        Converts token indices to text.
    max_decode_ratio : float
        Largest number of tokens per encoder frame.
    draft : bool
        Whether to use the CTC text as a draft.
    """

    name = "greedy attention"

    def __init__(self, tokenizer: Vocabulary, *, max_decode_ratio: float = 1.0, draft: bool = True):
        super().__init__(tokenizer, max_decode_ratio)
        self.ctc = GreedyCTC(tokenizer)
        self.draft = draft

    def search(
        self, output: ExitOutput, rows: Sequence[ExitOutput], ctc_tokens: Sequence[list[int]]
    ) -> list[Hypothesis]:
        """See :meth:`AttentionDecoding.search`."""
        limits = self.limits(output, ctc_tokens)
        if not self.draft:
            return greedy_search(output, limits)
        return [speculative_search(*one)[0] for one in zip(rows, limits, ctc_tokens, strict=True)]


class BeamAttention(AttentionDecoding):
    """Joint beam search with attention scores and CTC prefix scores.

    Arguments
    ---------
    tokenizer : Vocabulary
        Converts token indices to text.
    ctc : Decoder
        Decodes exits without an attention decoder.
    beam_size : int
        Hypotheses kept after each token.
    ctc_weight : float
        Weight of the CTC prefix score, from 0 to below 1; the attention decoder has the rest.
    max_decode_ratio : float
        Largest number of tokens per encoder frame.

    Raises
    ------
    ValueError
        If a number is outside its range.
    """

    def __init__(
        self,
        tokenizer: Vocabulary,
        ctc: Decoder,
        *,
        beam_size: int = 10,
        ctc_weight: float = 0.4,
        max_decode_ratio: float = 1.0,
    ):
        super().__init__(tokenizer, max_decode_ratio)
        if beam_size < 1:
            raise ValueError(f"beam_size is {beam_size}: give 1 or more")
        if not 0 <= ctc_weight < 1:
            raise ValueError(f"ctc_weight={ctc_weight}: give a number from 0 to below 1, or use a CTC beam")
        self.ctc, self.beam_size, self.ctc_weight = ctc, beam_size, ctc_weight
        self.name = f"attention beam {beam_size}, CTC weight {ctc_weight}"

    def search(
        self, output: ExitOutput, rows: Sequence[ExitOutput], ctc_tokens: Sequence[list[int]]
    ) -> list[Hypothesis]:
        """See :meth:`AttentionDecoding.search`; decodes one utterance at a time."""
        return [self._search(*pair) for pair in zip(rows, self.limits(output, ctc_tokens), strict=True)]

    def _search(self, output: ExitOutput, limit: Limit) -> Hypothesis:
        if not math.isfinite(output.state.sum()):  # as is the sum of finite states, which follow a norm
            return Hypothesis([], [math.nan], [math.nan], 0, is_cut=True)
        tokens, steps, run = self.best(output, limit.max_tokens)
        (scored,) = score_texts(output, run, [cut_loop(tokens, limit)])
        cost, (frames,) = output.attention_decoder.cost, output.lengths.tolist()
        macs = cost.start_macs(frames) + self.beam_size * cost.text_macs(frames, steps) + scored.macs
        return replace(scored, macs=macs, is_cut=len(scored.tokens) < len(tokens))

    def best(self, output: ExitOutput, max_tokens: int) -> tuple[list[int], int, AttentionRun]:
        """Return the best text, the passes of the attention decoder, and the decoder before its first token."""
        options = {"beam_size": self.beam_size, "ctc_weight": self.ctc_weight, "max_tokens": max_tokens}
        tokens, steps = beam_search(output.start_attention(), np.asarray(output.log_probs[0]), **options)
        return tokens, steps, output.start_attention()


class RescoreAttention(AttentionDecoding):
    """Rescores the n best texts of a CTC beam with the attention decoder, which reads them all in one pass.

    As in WeNet (Yao et al., arXiv 2102.01547), the score of a text is its log-probability by the attention decoder plus
    ``ctc_weight`` times its score in the CTC beam.

    Arguments
    ---------
    tokenizer : Vocabulary
        Converts token indices to text.
    ctc : Decoder
        The CTC beam search; :meth:`candidates` reads its n best texts.
    ctc_weight : float
        Weight of the score in the CTC beam.
    max_decode_ratio : float
        Largest number of tokens per encoder frame.

    Raises
    ------
    ValueError
        If a number is outside its range.
    """

    def __init__(self, tokenizer: Vocabulary, ctc: Decoder, *, ctc_weight: float = 0.5, max_decode_ratio: float = 1.0):
        super().__init__(tokenizer, max_decode_ratio)
        if not ctc_weight >= 0:
            raise ValueError(f"ctc_weight={ctc_weight}: give a number of at least 0")
        self.ctc, self.ctc_weight = ctc, ctc_weight
        self.name = f"attention rescoring of {ctc.name}, CTC weight {ctc_weight}"

    def candidates(self, output: ExitOutput) -> list[list[tuple[list[int], float]]]:
        """Return the n best token sequences of each utterance with their scores; none if a frame is NaN."""
        return self.ctc.n_best(output)

    def search(
        self, output: ExitOutput, rows: Sequence[ExitOutput], ctc_tokens: Sequence[list[int]]
    ) -> list[Hypothesis]:
        """See :meth:`AttentionDecoding.search`; decodes one utterance at a time."""
        triples = zip(rows, self.candidates(output), self.limits(output, ctc_tokens), strict=True)
        return [self._choose(*triple) for triple in triples]

    def _choose(self, output: ExitOutput, candidates: Sequence[tuple[list[int], float]], limit: Limit) -> Hypothesis:
        if not candidates:  # a frame is NaN
            return Hypothesis([], [math.nan], [math.nan], 0, is_cut=True)
        texts = [tokens[: limit.max_tokens] for tokens, _ in candidates]
        scored = score_texts(output, output.start_attention(), texts)
        totals = [
            sum(one.log_probs) + self.ctc_weight * of_ctc for one, (_, of_ctc) in zip(scored, candidates, strict=True)
        ]
        best = scored[max(range(len(scored)), key=totals.__getitem__)]
        (frames,) = output.lengths.tolist()
        macs = output.attention_decoder.cost.start_macs(frames) + sum(one.macs for one in scored)
        return replace(best, macs=macs)


def _scores(hypothesis: Hypothesis, ctc_tokens: list[int]) -> dict[str, float]:
    """Return the exit scores of a text by the attention decoder."""
    count = max(1, len(hypothesis.log_probs))
    entropy = min(1.0, sum(hypothesis.entropies) / count)
    confidence = math.exp(sum(hypothesis.log_probs) / count)
    if hypothesis.is_cut:  # an attention decoder is confident in its loops
        entropy, confidence = 1.0, 0.0
    agreement = token_agreement(ctc_tokens, hypothesis.tokens)
    return dict(zip(FROM_ATTENTION, (entropy, confidence, agreement), strict=True))
