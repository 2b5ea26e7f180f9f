# SPDX-License-Identifier: Apache-2.0
"""From what an exit gives to text.

Every decoder has a ``name`` for reports, and ``decode``: an :class:`~speechbrain_ee.lobes.heads.ExitOutput` of a batch
-> one :class:`Decoded` per utterance, the same whatever the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbrain_ee.decoders.attention import BeamAttention, GreedyAttention, RescoreAttention
from speechbrain_ee.decoders.ctc import BeamCTC, GreedyCTC
from speechbrain_ee.decoders.lexicon import LexiconCTC
from speechbrain_ee.text.language_model import load_language_model

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import CTCHeads
    from speechbrain_ee.text.tokenizer import Tokenizer

DECODINGS = ("greedy", "beam", "lexicon", "rescore", "ctc")


def make_decoder(
    decoding: str,
    heads: CTCHeads,
    tokenizer: Tokenizer,
    *,
    beam_size: int | None = None,
    lm=None,
    lm_weight: float | None = None,
    word_bonus: float | None = None,
):
    """A decoder by its name.

    Arguments
    ---------
    decoding : str
        ``greedy`` or ``beam``, with attention where the heads have decoders, else with CTC; ``lexicon``: CTC
        beam over the words of ``lm``; ``rescore``: CTC beam, chosen anew by attention; ``ctc``: the best path of CTC,
        whatever there is.
    heads : CTCHeads
        Of the model.
    tokenizer : Tokenizer
        Of the model.
    beam_size : int | None
        Of a beam; None is the decoder's own default.
    lm : str | Path | None
        For a CTC beam a KenLM over words (for ``lexicon`` an ARPA file), for a beam with attention a TransformerLM over
        the model's tokens.
    lm_weight : float | None
        Of the language model; None is the decoder's own default.
    word_bonus : float | None
        Of a CTC beam with a KenLM, per word; more = longer texts. None is the decoder's own default.

    Raises
    ------
    ValueError
        If the heads do not serve for that, or an option is given that is not used.

    Example
    -------
    >>> from speechbrain_ee.lobes import CTCHeads
    >>> heads = CTCHeads(num_exits=1, d_model=2, vocab_size=3)
    >>> make_decoder("rescore", heads, None)
    Traceback (most recent call last):
    ValueError: rescore needs attention decoders, and this model has none: give greedy or beam
    """
    if decoding not in DECODINGS:
        raise ValueError(f"decoding {decoding!r} is not one of {', '.join(DECODINGS)}")
    if decoding == "rescore" and not heads.has_decoders:
        raise ValueError("rescore needs attention decoders, and this model has none: give greedy or beam")
    if decoding in ("greedy", "ctc") and (lm is not None or beam_size is not None):
        raise ValueError(f"{decoding} has no beam, for which a beam size or a language model would be: give beam")
    if decoding == "lexicon" and lm is None:
        raise ValueError("lexicon takes its words from a language model: give lm, an ARPA file")
    if lm is None and (lm_weight is not None or word_bonus is not None):
        raise ValueError("a language model's weight and a bonus per word are for a language model: give lm too")
    is_joint = decoding == "beam" and heads.has_decoders
    if is_joint and word_bonus is not None:
        raise ValueError("a bonus per word is for a KenLM over words; a beam with attention has one over tokens")
    names = {"beam_size": beam_size, "lm_weight" if is_joint else "alpha": lm_weight, "beta": word_bonus}
    options = {name: value for name, value in names.items() if value is not None}
    if is_joint:
        kind = BeamAttention
        options["language_model"] = None if lm is None else load_language_model(lm)
    elif kind := {"beam": BeamCTC, "lexicon": LexiconCTC, "rescore": RescoreAttention}.get(decoding):
        options["kenlm_model_path"] = lm
    else:
        kind = GreedyAttention if decoding == "greedy" and heads.has_decoders else GreedyCTC
    decoder = kind(tokenizer, **options)
    decoder.lm_file = lm  # by which results of another language model of the same name are told apart
    return decoder
