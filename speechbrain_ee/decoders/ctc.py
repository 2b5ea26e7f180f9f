# SPDX-License-Identifier: Apache-2.0
"""Beam search of CTC log-probabilities, over SpeechBrain's decoders.

SpeechBrain's decoders take relative lengths and convert them to frames; its beam searcher rounds down, so that 32 of 41
frames become 31. Here lengths are integers, and each utterance is cut to its own frames before it is decoded.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from speechbrain.decoders.ctc import CTCBeamSearcher

from ee_runtime.decoders.base import N_BEST, Decoded, Decoder, frame_confidences, share_of_first
from ee_runtime.special_tokens import BLANK_INDEX
from ee_runtime.text.spans import Span
from speechbrain_ee.decoders.arpa import check_file, words_of_arpa, writable_words

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import ExitOutput
    from speechbrain_ee.text.tokenizer import Tokenizer

# Pieces without text: SentencePiece drops them, but SpeechBrain's beam searcher would print them.
_CONTROL_PIECES = ("<s>", "</s>")


class BeamCTC(Decoder):
    """CTC beam search, optionally with a KenLM n-gram language model over words.

    Arguments
    ---------
    tokenizer : Tokenizer
        Its pieces are the vocabulary of the search.
    beam_size : int
        Hypotheses kept after each frame; more = slower, rarely better above 50 without a language model.
    kenlm_model_path : str or Path, optional
        ARPA file or KenLM binary over words; None searches without a language model.
    alpha : float
        Weight of the language model.
    beta : float
        Bonus per word; more = longer texts.
    beam_prune_logp : float
        Hypotheses whose log-probability is this far below the best one are dropped.
    token_prune_min_logp : float
        Tokens with a log-probability below this are skipped in a frame, except the best one.

    Raises
    ------
    ValueError
        If ``beam_size`` is below 1, or the language model is missing or unreadable.
    ImportError
        If a language model is given and KenLM is not installed.

    Example
    -------
    >>> import torch
    >>> from speechbrain_ee.lobes.heads import ExitOutput
    >>> class Letters:
    ...     vocab_size, vocab_list = 3, ["<unk>", "▁a", "b"]
    >>> probs = torch.tensor([[[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]]])
    >>> BeamCTC(Letters(), beam_size=4).decode(ExitOutput(probs.log(), torch.tensor([2])))[0].text
    'ab'
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        beam_size: int = 50,
        kenlm_model_path: str | Path | None = None,
        alpha: float = 0.5,
        beta: float = 1.5,
        beam_prune_logp: float = -10.0,
        token_prune_min_logp: float = -5.0,
    ):
        if beam_size < 1:
            raise ValueError(f"beam_size is {beam_size}: give 1 or more")
        if kenlm_model_path is not None:
            _check_kenlm(Path(kenlm_model_path), tokenizer)
        self.name = f"CTC beam {beam_size}"
        if kenlm_model_path is not None:
            self.name += f", {Path(kenlm_model_path).name} weight {alpha}, bonus {beta}"
        self.vocab_size = tokenizer.vocab_size
        options = {
            "alpha": alpha,
            "beta": beta,
            "beam_size": beam_size,
            "beam_prune_logp": beam_prune_logp,
            "token_prune_min_logp": token_prune_min_logp,
        }
        vocab_list = ["" if p in _CONTROL_PIECES else p for p in tokenizer.vocab_list]
        try:
            self.searcher = CTCBeamSearcher(
                blank_index=BLANK_INDEX,
                vocab_list=vocab_list,
                kenlm_model_path=None if kenlm_model_path is None else str(kenlm_model_path),
                topk=min(beam_size, N_BEST),
                **options,
            )
        except OSError as error:  # from KenLM: the file is not a model, or has single words only
            raise ValueError(
                f"cannot read language model {kenlm_model_path}; give an ARPA or KenLM binary of order 2 or more"
            ) from error

    def decode(self, output: ExitOutput) -> list[Decoded]:
        """See :meth:`Decoder.decode`; the score ``posterior`` is the text's share of the n-best list's probability.

        A posterior of exactly 1 means that a single hypothesis survived the pruning.
        """
        return [_decoded(*pair) for pair in zip(self.n_best(output), frame_confidences(output), strict=True)]

    def n_best(self, output: ExitOutput) -> list[list]:
        """Return SpeechBrain's hypotheses of each utterance, the best one first; none if a frame is NaN."""
        output.check(self.vocab_size)
        log_probs = output.log_probs.detach().float().cpu()
        rows = [one[:length] for one, length in zip(log_probs, output.lengths.tolist(), strict=True)]
        return [[] if one.isnan().any() else self.searcher(one.unsqueeze(0))[0] for one in rows]


def _decoded(n_best: list, confidences: list[float]) -> Decoded:
    if not n_best:
        return Decoded("", [], {"posterior": math.nan})
    best = n_best[0]
    spans = [Span.of_frames(word, start, end, confidences) for word, (start, end) in best.text_frames]
    return Decoded(best.text, spans, {"posterior": share_of_first([one.lm_score for one in n_best])})


def _check_kenlm(path: Path, tokenizer: Tokenizer) -> None:
    if find_spec("kenlm") is None or find_spec("pygtrie") is None:
        raise ImportError('a language model needs KenLM, which is not installed: pip install "speechbrain_ee[lm]"')
    check_file(path, "an ARPA or KenLM binary")
    if words := words_of_arpa(path):
        writable_words(path, words, tokenizer)
