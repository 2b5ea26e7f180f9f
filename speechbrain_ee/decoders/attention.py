# SPDX-License-Identifier: Apache-2.0
"""Attention decoding over SpeechBrain's decoders: joint CTC/attention beam, and rescoring of SpeechBrain's CTC beam.

Greedy attention decoding is in :mod:`ee_runtime.decoders.attention`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from speechbrain.decoders import CTCScorer, ScorerBuilder, TransformerLMScorer

from ee_runtime.decoders import attention
from ee_runtime.special_tokens import BLANK_INDEX, EOS_INDEX
from speechbrain_ee.decoders.beam_searcher import BeamSearcher
from speechbrain_ee.decoders.ctc import BeamCTC
from speechbrain_ee.lobes.attention_run import TorchAttentionRun

if TYPE_CHECKING:
    from speechbrain_ee.lobes.exit_output import ExitOutput
    from speechbrain_ee.text.tokenizer import Tokenizer


class BeamAttention(attention.BeamAttention):
    """SpeechBrain's joint beam search with attention scores, CTC prefix scores and an optional language model.

    Arguments
    ---------
    tokenizer : Tokenizer
        Converts token indices to text.
    beam_size : int
        Hypotheses kept after each token.
    language_model : torch.nn.Module | None
        SpeechBrain's ``TransformerLM`` over the same tokens; its cost is not included in the MACs.
    lm_weight : float
        Weight of the language model.
    **options
        ``ctc_weight`` and ``max_decode_ratio`` of :class:`ee_runtime.decoders.attention.BeamAttention`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        beam_size: int = 10,
        language_model: torch.nn.Module | None = None,
        lm_weight: float = 0.6,
        **options,
    ):
        super().__init__(tokenizer, BeamCTC(tokenizer, beam_size=beam_size), beam_size=beam_size, **options)
        if language_model is not None:
            _check_vocabulary(language_model, tokenizer.vocab_size)
            self.name += f", TransformerLM weight {lm_weight}"
        self.language_model, self.lm_weight = language_model, lm_weight

    @torch.no_grad()
    def best(self, output: ExitOutput, max_tokens: int) -> tuple[list[int], int, TorchAttentionRun]:
        """See :meth:`ee_runtime.decoders.attention.BeamAttention.best`."""
        searcher = BeamSearcher(output, max_tokens, beam_size=self.beam_size, scorer=self._scorer(output))
        (found,), _, _, _ = searcher(output.state, torch.ones(1, device=output.state.device))
        run = TorchAttentionRun(output.attention_decoder, searcher.start)
        return [int(token) for token in found], searcher.steps, run

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


class RescoreAttention(attention.RescoreAttention):
    """Rescores the n best texts of SpeechBrain's CTC beam, see :class:`ee_runtime.decoders.attention.RescoreAttention`.

    Arguments
    ---------
    tokenizer : Tokenizer
        Converts token indices to text, and text to token indices.
    ctc_weight : float
        Weight of the score in the CTC beam, which may include a KenLM.
    max_decode_ratio : float
        Largest number of tokens per encoder frame.
    **beam
        Arguments of :class:`~speechbrain_ee.decoders.ctc.BeamCTC`: ``beam_size``, ``kenlm_model_path``, ...
    """

    def __init__(self, tokenizer: Tokenizer, *, ctc_weight: float = 0.5, max_decode_ratio: float = 1.0, **beam):
        ctc = BeamCTC(tokenizer, **{"beam_size": 10} | beam)
        super().__init__(tokenizer, ctc, ctc_weight=ctc_weight, max_decode_ratio=max_decode_ratio)

    def candidates(self, output: ExitOutput) -> list[list[tuple[list[int], float]]]:
        """See :meth:`ee_runtime.decoders.attention.RescoreAttention.candidates`."""
        return [[(self.tokenizer.encode(one.text), one.lm_score) for one in row] for row in self.ctc.n_best(output)]
