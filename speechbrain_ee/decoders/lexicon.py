# SPDX-License-Identifier: Apache-2.0
"""CTC beam search over the words of a language model and no others, by torchaudio's Flashlight decoder."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from speechbrain_ee.decoders.arpa import check_file, words_of_arpa, writable_words
from speechbrain_ee.decoders.base import N_BEST, Decoded, check_output, frame_confidences, share_of_first
from speechbrain_ee.special_tokens import BLANK_INDEX
from speechbrain_ee.text.spans import WORD_START, Span, word_positions

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import ExitOutput
    from speechbrain_ee.text.tokenizer import Tokenizer


TOKENS_PER_FRAME = 10  # that are looked at
SCORE_BAND = 15.0  # natural logarithms below the best, in which hypotheses are kept


class LexiconCTC:
    """CTC beam search in which every word is one of a language model's, spelled in letters.

    For models that hear better than they spell: few hours of training, early exits. A word that the language model
    does not know cannot come out.

    Arguments
    ---------
    tokenizer : Tokenizer
        Of letters: every piece a single character.
    kenlm_model_path : str or Path
        ARPA file over words; its unigrams are the lexicon.
    beam_size : int
        Hypotheses kept after each frame, but none that is 15 nats below the best; more = slower.
    alpha : float
        Weight of the language model, whose logarithms are natural here.
    beta : float
        Bonus per word; more = longer texts.

    Raises
    ------
    ValueError
        If ``beam_size`` is below 1, tokens are no letters, or the language model is missing, no ARPA file, or has no
        word of these letters.
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
            raise ValueError(f"beam_size {beam_size} keeps no hypothesis; choose 1 or more")
        pieces = tokenizer.vocab_list
        if long := [piece for piece in pieces[3:] if len(piece) > 1]:
            raise ValueError(
                f"a lexicon spells words in letters, and this model has tokens like {long[0]!r}: give beam"
            )
        self.name = (
            f"CTC beam {beam_size} over the words of {Path(kenlm_model_path).name}, weight {alpha}, bonus {beta}"
        )
        self.tokenizer = tokenizer
        self.space = pieces.index(WORD_START)
        path = Path(kenlm_model_path)
        check_file(path, "an ARPA file")
        if not (words := words_of_arpa(path)):
            raise ValueError(
                f"{path} is no ARPA file, from which the words of a lexicon are read: a KenLM binary has none"
            )
        words = writable_words(path, words, tokenizer)
        self.searcher = _make_searcher(
            words,
            tokens=pieces,
            blank=pieces[BLANK_INDEX],
            lm=kenlm_model_path,
            beam_size=beam_size,
            lm_weight=alpha * math.log(10),  # Flashlight takes KenLM's decimal logarithms as they are
            word_score=beta,
        )

    def decode(self, output: ExitOutput) -> list[Decoded]:
        """Texts with the frames of their words, and ``posterior``: their share of the n-best list's probability."""
        check_output(output, self.tokenizer.vocab_size)
        confidences, _ = frame_confidences(output.log_probs)
        log_probs = output.log_probs.detach().float().cpu()
        rows = zip(log_probs, output.lengths.tolist(), confidences, strict=True)
        return [self._decode(one[:length], confidence) for one, length, confidence in rows]

    def _decode(self, log_probs: torch.Tensor, confidences: list[float]) -> Decoded:
        if log_probs.isnan().any():
            return Decoded("", [], {"posterior": math.nan})
        # A word ends with the space behind it: the last one gets a frame of nothing else.
        space = torch.full((1, log_probs.shape[1]), -1e4)
        space[0, self.space] = 0.0
        hypotheses = self.searcher(torch.cat([log_probs, space])[None].contiguous())[0]
        best = hypotheses[0]
        spans = [
            Span.of_frames(word, frames[0], frames[-1] + 1, confidences)
            for word, frames in zip(best.words, self._frames(best), strict=False)  # a word that is not whole is none
        ]
        posterior = share_of_first([one.score for one in hypotheses])
        return Decoded(" ".join(best.words), spans, {"posterior": posterior})

    def _frames(self, hypothesis) -> list[list[int]]:
        """Frames of each word's letters; the decoder counts from 1, since its first step is before the first frame."""
        tokens, frames = hypothesis.tokens.tolist(), hypothesis.timesteps.tolist()
        return [[frames[one] - 1 for one in word] for word in word_positions(tokens, self.tokenizer)]


def _make_searcher(words: list[str], *, tokens: list[str], blank: str, lm: str | Path, **options):
    try:
        from torchaudio.models.decoder import ctc_decoder
    except ImportError:
        raise ImportError('a lexicon needs Flashlight, not installed here: pip install "speechbrain_ee[lm]"') from None
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
                log_add=True,  # all paths of a text count, as in CTC's loss
                **options,
            )
        except RuntimeError as error:  # KenLM's own
            raise ValueError(f"cannot read language model {lm}; give an ARPA file of order 2 or more") from error
