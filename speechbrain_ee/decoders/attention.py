# SPDX-License-Identifier: Apache-2.0
"""Text from an exit's attention decoder: greedy, joint CTC/attention beam, and rescoring of CTC hypotheses.

At an exit without a decoder each of them does what its CTC counterpart does. Whatever a decoder says, a text has no
more tokens than ``max_decode_ratio`` times the encoder's frames, and no phrase that repeats without end where CTC
hears a text that is much shorter.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from rapidfuzz.distance import Levenshtein
from speechbrain.decoders import CTCScorer, ScorerBuilder, TransformerLMScorer

from speechbrain_ee.decoders.alignment import align_words
from speechbrain_ee.decoders.attention_search import (
    BeamSearcher,
    Hypothesis,
    Limit,
    cut_loop,
    greedy_search,
    told_texts,
)
from speechbrain_ee.decoders.base import Decoded, check_output
from speechbrain_ee.decoders.ctc import BeamCTC, GreedyCTC, best_tokens
from speechbrain_ee.decoders.speculation import speculative_search
from speechbrain_ee.policies.scores import FROM_ATTENTION
from speechbrain_ee.special_tokens import BLANK_INDEX, EOS_INDEX

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import ExitOutput
    from speechbrain_ee.text.tokenizer import Tokenizer


class _AttentionText(ABC):
    """What the decoders of this module share: limits, and the way from tokens to text."""

    def __init__(self, tokenizer: Tokenizer, max_decode_ratio: float):
        if not max_decode_ratio > 0:
            raise ValueError(f"max_decode_ratio={max_decode_ratio}: give a number above 0, tokens per encoder frame")
        self.tokenizer = tokenizer
        self.max_decode_ratio = max_decode_ratio

    def limits(self, output: ExitOutput, said_by_ctc: Sequence[list[int]]) -> list[Limit]:
        """How long each text may be, of which CTC hears these tokens."""
        most = [
            min(int(self.max_decode_ratio * frames), output.attention_decoder.max_length - 1)
            for frames in output.lengths.tolist()
        ]
        return [Limit.of(tokens, len(ctc)) for tokens, ctc in zip(most, said_by_ctc, strict=True)]

    def decode(self, output: ExitOutput) -> list[Decoded]:
        """Texts, with words timed by aligning them to the CTC head's frames."""
        check_output(output, self.tokenizer.vocab_size)
        said_by_ctc = best_tokens(output)
        if output.attention_decoder is None:  # no decoder, no scores of one
            unknown = dict.fromkeys(FROM_ATTENTION, math.nan)
            return [
                replace(one, scores=one.scores | unknown, ctc_text=self._text(ctc))
                for one, ctc in zip(self.ctc.decode(output), said_by_ctc, strict=True)
            ]
        hypotheses, found = self.search(output, said_by_ctc), []
        for row, (hypothesis, ctc) in enumerate(zip(hypotheses, said_by_ctc, strict=True)):
            tokens = hypothesis.tokens
            found.append(
                Decoded(
                    text=self._text(tokens),
                    spans=align_words(output.row(row), tokens, self._probs(hypothesis), self.tokenizer),
                    scores=_scores(hypothesis, ctc),
                    macs=hypothesis.macs,
                    ctc_text=self._text(ctc),
                )
            )
        return found

    @abstractmethod
    def search(self, output: ExitOutput, said_by_ctc: Sequence[list[int]]) -> list[Hypothesis]:
        """What the decoder of the exit says; CTC hears these tokens."""

    def _text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens) if tokens else ""

    @staticmethod
    def _probs(hypothesis: Hypothesis) -> list[float]:
        return [math.exp(one) for one in hypothesis.log_probs[: len(hypothesis.tokens)]]


class GreedyAttention(_AttentionText):
    """The decoder's best token, one after the other, until it says EOS.

    From a draft, one utterance at a time: the decoder reads what CTC has heard, some tokens at once, and goes on alone
    where it disagrees. The text is the same, sooner (figures: docs/results/attention.md). Without a draft, whole
    batches go token by token, which is faster for many.

    Arguments
    ---------
    tokenizer : Tokenizer
        Turns token indices into text.
    max_decode_ratio : float
        Tokens per encoder frame at most.
    draft : bool
        Whether to start from the CTC text.

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

    def search(self, output: ExitOutput, said_by_ctc: Sequence[list[int]]) -> list[Hypothesis]:
        """See :meth:`_AttentionText.search`."""
        limits = self.limits(output, said_by_ctc)
        if not self.draft:
            return greedy_search(output, limits)
        drafts = zip(limits, said_by_ctc, strict=True)
        return [speculative_search(output.row(row), *pair)[0] for row, pair in enumerate(drafts)]


class BeamAttention(_AttentionText):
    """SpeechBrain's beam search over attention and CTC prefix scores, and a language model over tokens if one is given.

    Arguments
    ---------
    tokenizer : Tokenizer
        Turns token indices into text.
    beam_size : int
        Hypotheses kept after each token.
    ctc_weight : float
        Of the CTC prefix score, 0 to 1; the attention decoder has the rest.
    language_model : torch.nn.Module | None
        SpeechBrain's ``TransformerLM`` over the same tokens; its cost is not in the MACs.
    lm_weight : float
        Of the language model.
    max_decode_ratio : float
        Tokens per encoder frame at most.

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
            raise ValueError(f"beam_size {beam_size} keeps no hypothesis; choose 1 or more")
        if not 0 <= ctc_weight < 1:
            raise ValueError(f"ctc_weight={ctc_weight}: give a number from 0 to below 1; for CTC alone take BeamCTC")
        self.beam_size, self.ctc_weight = beam_size, ctc_weight
        if language_model is not None:
            _check_vocabulary(language_model, tokenizer.vocab_size)
        self.language_model, self.lm_weight = language_model, lm_weight
        self.name = f"attention beam {beam_size}, CTC weight {ctc_weight}" + (
            "" if language_model is None else f", TransformerLM weight {lm_weight}"
        )
        self.ctc = BeamCTC(tokenizer, beam_size=beam_size)

    @torch.no_grad()
    def search(self, output: ExitOutput, said_by_ctc: Sequence[list[int]]) -> list[Hypothesis]:
        """See :meth:`_AttentionText.search`; one utterance at a time."""
        limits = self.limits(output, said_by_ctc)
        return [self._search(output.row(row), limit) for row, limit in enumerate(limits)]

    def _search(self, output: ExitOutput, limit: Limit) -> Hypothesis:
        frames, attention_decoder = int(output.lengths), output.attention_decoder
        if not torch.isfinite(output.state).all():
            return Hypothesis([], [math.nan], [math.nan], 0, is_cut=True)
        searcher = BeamSearcher(output, limit.max_tokens, beam_size=self.beam_size, scorer=self._scorer(output))
        (tokens,), _, _, _ = searcher(output.state, torch.ones(1, device=output.state.device))
        said = [int(token) for token in tokens]
        (told,) = told_texts(attention_decoder, searcher.start, [cut_loop(said, limit)])
        macs = (
            attention_decoder.start_macs(frames)
            + self.beam_size * attention_decoder.text_macs(frames, searcher.steps)
            + told.macs
        )
        return replace(told, macs=macs, is_cut=len(told.tokens) < len(said))

    def _scorer(self, output: ExitOutput) -> ScorerBuilder | None:
        scorers, weights = [], {}
        if self.ctc_weight:
            scorers.append(CTCScorer(_Given(output.log_probs), BLANK_INDEX, EOS_INDEX))
            weights["ctc"] = self.ctc_weight
        if self.language_model is not None:
            scorers.append(TransformerLMScorer(self.language_model))
            weights["transformerlm"] = self.lm_weight
        return ScorerBuilder(full_scorers=scorers, weights=weights) if scorers else None


def _check_vocabulary(language_model: torch.nn.Module, vocab_size: int) -> None:
    own = language_model.custom_src_module.emb.num_embeddings
    if own != vocab_size:
        raise ValueError(
            f"the language model has {own} tokens, the recogniser {vocab_size}: give one that was trained with its "
            "tokenizer"
        )


class _Given:
    """A head whose output is known already, where SpeechBrain wants one to call."""

    def __init__(self, log_probs: torch.Tensor):
        self.log_probs = log_probs

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return self.log_probs


class RescoreAttention(_AttentionText):
    """The n best texts of a CTC beam, chosen anew by the decoder, which reads them all in one pass.

    As in WeNet (Yao et al., arXiv 2102.01547): the decoder's log-probability of a text, and ``ctc_weight`` times the
    CTC beam's, which may have a KenLM in it.

    Arguments
    ---------
    tokenizer : Tokenizer
        Turns token indices into text.
    ctc_weight : float
        Of the beam's score.
    max_decode_ratio : float
        Tokens per encoder frame at most.
    **beam
        Of :class:`~speechbrain_ee.decoders.ctc.BeamCTC`: ``beam_size``, ``kenlm_model_path``, ...
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
    def search(self, output: ExitOutput, said_by_ctc: Sequence[list[int]]) -> list[Hypothesis]:
        """See :meth:`_AttentionText.search`; one utterance at a time."""
        pairs = zip(self.ctc.n_best(output), self.limits(output, said_by_ctc), strict=True)
        return [self._choose(output.row(row), *pair) for row, pair in enumerate(pairs)]

    def _choose(self, output: ExitOutput, n_best: Sequence, limit: Limit) -> Hypothesis:
        attention_decoder, frames = output.attention_decoder, int(output.lengths)
        texts = [self.tokenizer.encode(one.text)[: limit.max_tokens] for one in n_best]
        if not texts:  # nothing but NaN
            return Hypothesis([], [math.nan], [math.nan], 0, is_cut=True)
        told = told_texts(attention_decoder, attention_decoder.start(output.state, output.lengths), texts)
        totals = [sum(one.log_probs) + self.ctc_weight * ctc.lm_score for one, ctc in zip(told, n_best, strict=True)]
        best = told[max(range(len(told)), key=totals.__getitem__)]
        macs = attention_decoder.start_macs(frames) + sum(one.macs for one in told)
        return replace(best, macs=macs)


def _scores(hypothesis: Hypothesis, ctc_tokens: list[int]) -> dict[str, float]:
    count = max(1, len(hypothesis.log_probs))
    agrees = (
        Levenshtein.normalized_similarity(ctc_tokens, hypothesis.tokens) if ctc_tokens or hypothesis.tokens else 0.0
    )
    if hypothesis.is_cut:  # a decoder is sure of its loops
        return dict(zip(FROM_ATTENTION, (1.0, 0.0, agrees), strict=True))
    entropy = min(1.0, sum(hypothesis.entropies) / count)
    return dict(zip(FROM_ATTENTION, (entropy, math.exp(sum(hypothesis.log_probs) / count), agrees), strict=True))
