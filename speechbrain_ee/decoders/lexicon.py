# SPDX-License-Identifier: Apache-2.0
"""CTC beam search restricted to the words of a language model, with torchaudio's Flashlight decoder."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ee_runtime.decoders.base import N_BEST, Decoded, Decoder, frame_confidences, share_of_first
from ee_runtime.special_tokens import BLANK_INDEX
from ee_runtime.text.spans import WORD_START, Span, word_positions
from speechbrain_ee.decoders.arpa import check_file, words_of_arpa, writable_words

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import ExitOutput
    from speechbrain_ee.text.tokenizer import Tokenizer


TOKENS_PER_FRAME = 10  # most probable tokens that are tried in each frame
SCORE_BAND = 15.0  # nats below the best hypothesis, in which hypotheses are kept


class LexiconCTC(Decoder):
    """CTC beam search in which every word is a word of a language model, spelled in letters.

    It is useful for models whose spelling is poor, for example after few hours of training or at early exits. Words
    that are unknown to the language model cannot be recognised.

    Arguments
    ---------
    tokenizer : Tokenizer
        Tokenizer of letters: every piece is a single character.
    kenlm_model_path : str or Path
        ARPA file over words; its unigrams are the lexicon.
    beam_size : int
        Hypotheses kept after each frame; those more than 15 nats below the best one are dropped. More = slower.
    alpha : float
        Weight of the language model, whose log-probabilities are in nats here.
    beta : float
        Bonus per word; more = longer texts.

    Raises
    ------
    ValueError
        If ``beam_size`` is below 1, tokens are not single letters, or the language model is missing, not an ARPA file,
        or has no word that consists of these letters.
    ImportError
        If Flashlight is not installed.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        kenlm_model_path: str | Path,
        beam_size: int = 200,
        alpha: float = 0.5,
        beta: float = 1.0,
    ):
        if beam_size < 1:
            raise ValueError(f"beam_size is {beam_size}: give 1 or more")
        pieces = tokenizer.vocab_list
        if long := [piece for piece in pieces[3:] if len(piece) > 1]:
            raise ValueError(
                f"lexicon needs single letters as tokens, and this model has tokens such as {long[0]!r}: give beam"
            )
        self.name = (
            f"CTC beam {beam_size} over the words of {Path(kenlm_model_path).name}, weight {alpha}, bonus {beta}"
        )
        self.tokenizer = tokenizer
        self.space = pieces.index(WORD_START)
        path = Path(kenlm_model_path)
        check_file(path, "an ARPA file")
        if not (words := words_of_arpa(path)):
            raise ValueError(f"{path} is not an ARPA file: give one, as the words of a KenLM binary cannot be read")
        words = writable_words(path, words, tokenizer)
        self.searcher = _make_searcher(
            words,
            tokens=pieces,
            blank=pieces[BLANK_INDEX],
            lm=kenlm_model_path,
            beam_size=beam_size,
            lm_weight=alpha * math.log(10),  # Flashlight uses KenLM's decimal logarithms unchanged
            word_score=beta,
        )

    def decode(self, output: ExitOutput) -> list[Decoded]:
        """See :meth:`Decoder.decode`; the score ``posterior`` is the text's share of the n-best list's probability."""
        output.check(self.tokenizer.vocab_size)
        log_probs = output.log_probs.detach().float().cpu()
        rows = zip(log_probs, output.lengths.tolist(), frame_confidences(output), strict=True)
        return [self._decode(one[:length], confidences) for one, length, confidences in rows]

    def _decode(self, log_probs: torch.Tensor, confidences: list[float]) -> Decoded:
        if log_probs.isnan().any():
            return Decoded("", [], {"posterior": math.nan})
        # A word ends with a space: a frame with a certain space ends the last word.
        space = torch.full((1, log_probs.shape[1]), -1e4)
        space[0, self.space] = 0.0
        hypotheses = self.searcher(torch.cat([log_probs, space])[None].contiguous())[0]
        best = hypotheses[0]
        spans = [
            Span.of_frames(word, frames[0], frames[-1] + 1, confidences)
            for word, frames in zip(best.words, self._frames(best), strict=False)  # an unfinished word is dropped
        ]
        posterior = share_of_first([one.score for one in hypotheses])
        return Decoded(" ".join(best.words), spans, {"posterior": posterior})

    def _frames(self, hypothesis) -> list[list[int]]:
        """Return the frames of each word's letters; the searcher counts frames from 1."""
        tokens, frames = hypothesis.tokens.tolist(), hypothesis.timesteps.tolist()
        return [[frames[one] - 1 for one in word] for word in word_positions(tokens, self.tokenizer)]


def _make_searcher(words: list[str], *, tokens: list[str], blank: str, lm: str | Path, **options):
    try:
        from torchaudio.models.decoder import ctc_decoder
    except ImportError:
        raise ImportError(
            'lexicon needs Flashlight, which is not installed: pip install "speechbrain_ee[lm]"'
        ) from None
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as lexicon:
        lexicon.writelines(f"{word} {' '.join(word)} {WORD_START}\n" for word in words)
        lexicon.flush()
        try:
            return ctc_decoder(
                lexicon=lexicon.name,
                tokens=tokens,
                lm=str(lm),
                nbest=min(options["beam_size"], N_BEST),
                blank_token=blank,
                sil_token=WORD_START,
                beam_size_token=min(TOKENS_PER_FRAME, len(tokens)),
                beam_threshold=SCORE_BAND,
                log_add=True,  # sums over the paths of a text, as the CTC loss does
                **options,
            )
        except RuntimeError as error:  # from KenLM
            raise ValueError(f"cannot read language model {lm}; give an ARPA file of order 2 or more") from error
