# SPDX-License-Identifier: Apache-2.0
"""From what an exit gives to text.

Every decoder has a ``name`` for reports, and ``decode``: an :class:`~speechbrain_ee.lobes.heads.ExitOutput` of a batch
-> one :class:`Decoded` per utterance, the same whatever the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbrain_ee.decoding.attention import BeamAttention, GreedyAttention, RescoreAttention
from speechbrain_ee.decoding.base import Decoded
from speechbrain_ee.decoding.ctc import BeamCTC, GreedyCTC
from speechbrain_ee.language_model import load_language_model

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import CTCHeads
    from speechbrain_ee.tokenizer import Tokenizer

__all__ = [
    "BeamAttention",
    "BeamCTC",
    "DECODINGS",
    "Decoded",
    "GreedyAttention",
    "GreedyCTC",
    "RescoreAttention",
    "make_decoder",
]

DECODINGS = ("greedy", "beam", "rescore", "ctc")


def make_decoder(
    decoding: str, heads: CTCHeads, tokenizer: Tokenizer, blank_index: int, *, beam_size: int | None = None, lm=None
):
    """A decoder by its name.

    Arguments
    ---------
    decoding : str
        ``greedy`` or ``beam``, with attention where the heads have decoders, else with CTC; ``rescore``: CTC beam,
        chosen anew by attention; ``ctc``: the best path of CTC, whatever there is.
    heads : CTCHeads
        Of the model.
    tokenizer : Tokenizer
        Of the model.
    blank_index : int
        Index of the CTC blank.
    beam_size : int | None
        Of a beam; None is the decoder's own default.
    lm : str | Path | None
        For a CTC beam a KenLM over words, for a beam with attention a TransformerLM over the model's tokens.

    Raises
    ------
    ValueError
        If the heads do not serve for that, or an option is given that is not used.

    Example
    -------
    >>> from speechbrain_ee.lobes import CTCHeads
    >>> heads = CTCHeads(num_exits=1, d_model=2, vocab_size=3)
    >>> make_decoder("rescore", heads, None, 0)
    Traceback (most recent call last):
    ValueError: rescore needs attention decoders, and this model has none: give greedy or beam
    """
    if decoding not in DECODINGS:
        raise ValueError(f"decoding {decoding!r} is not one of {', '.join(DECODINGS)}")
    if decoding == "rescore" and not heads.has_decoders:
        raise ValueError("rescore needs attention decoders, and this model has none: give greedy or beam")
    if decoding in ("greedy", "ctc") and (lm is not None or beam_size is not None):
        raise ValueError(f"{decoding} has no beam, for which a beam size or a language model would be: give beam")
    size = {} if beam_size is None else {"beam_size": beam_size}
    if decoding == "rescore":
        return RescoreAttention(tokenizer, blank_index, kenlm_model_path=lm, **size)
    if decoding == "beam" and heads.has_decoders:
        return BeamAttention(
            tokenizer, blank_index, language_model=None if lm is None else load_language_model(lm), **size
        )
    if decoding == "beam":
        return BeamCTC(tokenizer, blank_index, kenlm_model_path=lm, **size)
    return (GreedyAttention if decoding == "greedy" and heads.has_decoders else GreedyCTC)(tokenizer, blank_index)
