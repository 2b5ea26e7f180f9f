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
from typing import TYPE_CHECKING

import torch
from speechbrain.decoders import CTCScorer, ScorerBuilder, TransformerLMScorer

from ee_runtime.decoders.base import Decoded, Decoder, best_tokens
from ee_runtime.decoders.greedy import GreedyCTC
from ee_runtime.policies.scores import FROM_ATTENTION
from ee_runtime.special_tokens import BLANK_INDEX, EOS_INDEX
from ee_runtime.text.agreement import token_agreement
from speechbrain_ee.decoders.alignment import align_words
from speechbrain_ee.decoders.attention_search import (
    BeamSearcher,
    Hypothesis,
    Limit,
    cut_loop,
    greedy_search,
    score_texts,
)
from speechbrain_ee.decoders.ctc import BeamCTC
from speechbrain_ee.decoders.speculation import speculative_search

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import ExitOutput
    from speechbrain_ee.text.tokenizer import Tokenizer


class _AttentionDecoding(Decoder):
    """Shared part of the decoders of this module: length limits, and the conversion of tokens to text and words."""

    ctc: Decoder  # decodes exits without an attention decoder

    def __init__(self, tokenizer: Tokenizer, max_decode_ratio: float):
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


class GreedyAttention(_AttentionDecoding):
    """Greedy search: takes the attention decoder's best token, one after the other, until EOS.

    With ``draft`` (speculative decoding), the attention decoder checks several tokens of the CTC text in one pass and
    continues alone where it disagrees. The text is the same, and one utterance is decoded faster. Without it, the whole
    batch is decoded token by token, which is faster for large batches.

    Arguments
    ---------
    tokenizer : Tokenizer
        Converts token indices to text.
    max_decode_ratio : float
        Largest number of tokens per encoder frame.
    draft : bool
        Whether to use the CTC text as a draft.

    Example
    -------
    >>> from speechbrain_ee.lobes import JointHeads
    >>> from speechbrain_ee.text.tokenizer import Tokenizer
    >>> tokenizer = Tokenizer.train(["ab"], path=getfixture("tmp_path") / "char.model", model_type="char")
    >>> sizes = {"d_model": 8, "vocab_size": tokenizer.vocab_size, "nhead": 2, "d_ffn": 8}
    >>> heads = JointHeads(exit_layers=[1], num_decoder_layers=1, **sizes).eval()
    >>> output = heads.head(0, torch.randn(2, 7, 8), torch.tensor([7, 5]))
    >>> len(GreedyAttention(tokenizer).decode(output))
    2
    """

    name = "greedy attention"

    def __init__(self, tokenizer: Tokenizer, *, max_decode_ratio: float = 1.0, draft: bool = True):
        super().__init__(tokenizer, max_decode_ratio)
        self.ctc = GreedyCTC(tokenizer)
        self.draft = draft

    def search(
        self, output: ExitOutput, rows: Sequence[ExitOutput], ctc_tokens: Sequence[list[int]]
    ) -> list[Hypothesis]:
        """See :meth:`_AttentionDecoding.search`."""
        limits = self.limits(output, ctc_tokens)
        if not self.draft:
            return greedy_search(output, limits)
        return [speculative_search(*one)[0] for one in zip(rows, limits, ctc_tokens, strict=True)]


class BeamAttention(_AttentionDecoding):
    """SpeechBrain's joint beam search with attention scores, CTC prefix scores and an optional language model.

    Arguments
    ---------
    tokenizer : Tokenizer
        Converts token indices to text.
    beam_size : int
        Hypotheses kept after each token.
    ctc_weight : float
        Weight of the CTC prefix score, from 0 to below 1; the attention decoder has the rest.
    language_model : torch.nn.Module | None
        SpeechBrain's ``TransformerLM`` over the same tokens; its cost is not included in the MACs.
    lm_weight : float
        Weight of the language model.
    max_decode_ratio : float
        Largest number of tokens per encoder frame.

    Raises
    ------
    ValueError
        If a number is outside its range.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        beam_size: int = 10,
        ctc_weight: float = 0.4,
        language_model: torch.nn.Module | None = None,
        lm_weight: float = 0.6,
        max_decode_ratio: float = 1.0,
    ):
        super().__init__(tokenizer, max_decode_ratio)
        if beam_size < 1:
            raise ValueError(f"beam_size is {beam_size}: give 1 or more")
        if not 0 <= ctc_weight < 1:
            raise ValueError(f"ctc_weight={ctc_weight}: give a number from 0 to below 1, or use BeamCTC for CTC alone")
        self.beam_size, self.ctc_weight = beam_size, ctc_weight
        if language_model is not None:
            _check_vocabulary(language_model, tokenizer.vocab_size)
        self.language_model, self.lm_weight = language_model, lm_weight
        self.name = f"attention beam {beam_size}, CTC weight {ctc_weight}" + (
            "" if language_model is None else f", TransformerLM weight {lm_weight}"
        )
        self.ctc = BeamCTC(tokenizer, beam_size=beam_size)

    @torch.no_grad()
    def search(
        self, output: ExitOutput, rows: Sequence[ExitOutput], ctc_tokens: Sequence[list[int]]
    ) -> list[Hypothesis]:
        """See :meth:`_AttentionDecoding.search`; decodes one utterance at a time."""
        return [self._search(*pair) for pair in zip(rows, self.limits(output, ctc_tokens), strict=True)]

    def _search(self, output: ExitOutput, limit: Limit) -> Hypothesis:
        frames, attention_decoder = int(output.lengths), output.attention_decoder
        if not torch.isfinite(output.state).all():
            return Hypothesis([], [math.nan], [math.nan], 0, is_cut=True)
        searcher = BeamSearcher(output, limit.max_tokens, beam_size=self.beam_size, scorer=self._scorer(output))
        (found,), _, _, _ = searcher(output.state, torch.ones(1, device=output.state.device))
        tokens = [int(token) for token in found]
        (scored,) = score_texts(attention_decoder, searcher.start, [cut_loop(tokens, limit)])
        beam_macs = self.beam_size * attention_decoder.text_macs(frames, searcher.steps)
        macs = attention_decoder.start_macs(frames) + beam_macs + scored.macs
        return replace(scored, macs=macs, is_cut=len(scored.tokens) < len(tokens))

    def _scorer(self, output: ExitOutput) -> ScorerBuilder | None:
        scorers, weights = [], {}
        if self.ctc_weight:
            scorers.append(CTCScorer(_ComputedHead(output.log_probs), BLANK_INDEX, EOS_INDEX))
            weights["ctc"] = self.ctc_weight
        if self.language_model is not None:
            scorers.append(TransformerLMScorer(self.language_model))
            weights["transformerlm"] = self.lm_weight
        return ScorerBuilder(full_scorers=scorers, weights=weights) if scorers else None


def _check_vocabulary(language_model: torch.nn.Module, vocab_size: int) -> None:
    own = language_model.custom_src_module.emb.num_embeddings
    if own != vocab_size:
        raise ValueError(
            f"the language model has {own} tokens, the recogniser {vocab_size}: give one that was trained with the "
            "tokenizer of the recogniser"
        )


class _ComputedHead:
    """A head that returns its output computed before; SpeechBrain's scorer calls one."""

    def __init__(self, log_probs: torch.Tensor):
        self.log_probs = log_probs

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return self.log_probs


class RescoreAttention(_AttentionDecoding):
    """Rescores the n best texts of a CTC beam with the attention decoder, which reads them all in one pass.

    As in WeNet (Yao et al., arXiv 2102.01547), the score of a text is its log-probability by the attention decoder plus
    ``ctc_weight`` times its score in the CTC beam, which may include a KenLM.

    Arguments
    ---------
    tokenizer : Tokenizer
        Converts token indices to text.
    ctc_weight : float
        Weight of the score in the CTC beam.
    max_decode_ratio : float
        Largest number of tokens per encoder frame.
    **beam
        Arguments of :class:`~speechbrain_ee.decoders.ctc.BeamCTC`: ``beam_size``, ``kenlm_model_path``, ...
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        ctc_weight: float = 0.5,
        max_decode_ratio: float = 1.0,
        **beam,
    ):
        super().__init__(tokenizer, max_decode_ratio)
        if not ctc_weight >= 0:
            raise ValueError(f"ctc_weight={ctc_weight}: give a number of at least 0")
        self.ctc_weight = ctc_weight
        self.ctc = BeamCTC(tokenizer, **{"beam_size": 10} | beam)
        self.name = f"attention rescoring of {self.ctc.name}, CTC weight {ctc_weight}"

    @torch.no_grad()
    def search(
        self, output: ExitOutput, rows: Sequence[ExitOutput], ctc_tokens: Sequence[list[int]]
    ) -> list[Hypothesis]:
        """See :meth:`_AttentionDecoding.search`; decodes one utterance at a time."""
        triples = zip(rows, self.ctc.n_best(output), self.limits(output, ctc_tokens), strict=True)
        return [self._choose(*triple) for triple in triples]

    def _choose(self, output: ExitOutput, n_best: Sequence, limit: Limit) -> Hypothesis:
        attention_decoder, frames = output.attention_decoder, int(output.lengths)
        texts = [self.tokenizer.encode(one.text)[: limit.max_tokens] for one in n_best]
        if not texts:  # a frame is NaN
            return Hypothesis([], [math.nan], [math.nan], 0, is_cut=True)
        scored = score_texts(attention_decoder, attention_decoder.start(output.state, output.lengths), texts)
        totals = [sum(one.log_probs) + self.ctc_weight * ctc.lm_score for one, ctc in zip(scored, n_best, strict=True)]
        best = scored[max(range(len(scored)), key=totals.__getitem__)]
        macs = attention_decoder.start_macs(frames) + sum(one.macs for one in scored)
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
