# SPDX-License-Identifier: Apache-2.0
"""Make a decoder from its name on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ee_runtime.decoders.attention import GreedyAttention
from ee_runtime.decoders.base import Decoder
from ee_runtime.decoders.greedy import GreedyCTC
from speechbrain_ee.decoders.attention import BeamAttention, RescoreAttention
from speechbrain_ee.decoders.ctc import BeamCTC
from speechbrain_ee.decoders.lexicon import LexiconCTC
from speechbrain_ee.decoders.names import DECODINGS
from speechbrain_ee.text.language_model import load_language_model

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import CTCHeads
    from speechbrain_ee.text.tokenizer import Tokenizer

# Name: class for a model with CTC heads only, class for a model with attention decoders.
_CLASSES = {
    "greedy": (GreedyCTC, GreedyAttention),
    "beam": (BeamCTC, BeamAttention),
    "lexicon": (LexiconCTC, LexiconCTC),
    "rescore": (None, RescoreAttention),
    "ctc": (GreedyCTC, GreedyCTC),
}


def make_decoder(
    decoding: str,
    heads: CTCHeads,
    tokenizer: Tokenizer,
    *,
    beam_size: int | None = None,
    lm=None,
    lm_weight: float | None = None,
    word_bonus: float | None = None,
) -> Decoder:
    """Make a decoder from its name.

    Arguments
    ---------
    decoding : str
        ``greedy`` or ``beam``: with attention if the heads have attention decoders, else with CTC; ``lexicon``: CTC
        beam search restricted to the words of ``lm``; ``rescore``: CTC beam search, rescored by the attention decoder;
        ``ctc``: greedy CTC for every model.
    heads : CTCHeads
        Heads of the model.
    tokenizer : Tokenizer
        Tokenizer of the model.
    beam_size : int | None
        Size of the beam; None means the default of the decoder.
    lm : str | Path | None
        Language model: for a CTC beam a KenLM over words (for ``lexicon`` an ARPA file), for a beam with attention a
        TransformerLM over the tokens of the model.
    lm_weight : float | None
        Weight of the language model; None means the default of the decoder.
    word_bonus : float | None
        Bonus per word of a CTC beam with a KenLM; more = longer texts. None means the default of the decoder.

    Returns
    -------
    Decoder
        The decoder.

    Raises
    ------
    ValueError
        If the name is unknown, the heads do not support the decoding, or the decoding does not use an option.

    Example
    -------
    >>> from speechbrain_ee.lobes import CTCHeads
    >>> heads = CTCHeads(num_exits=1, d_model=2, vocab_size=3)
    >>> make_decoder("greedy", heads, None)
    <GreedyCTC: greedy CTC>
    >>> make_decoder("rescore", heads, None)
    Traceback (most recent call last):
    ValueError: rescore needs attention decoders, which this model does not have: give greedy or beam
    """
    if decoding not in DECODINGS:
        raise ValueError(f"decoding {decoding!r} is not one of {', '.join(DECODINGS)}")
    kind = _CLASSES[decoding][heads.has_decoders]
    if kind is None:
        raise ValueError(f"{decoding} needs attention decoders, which this model does not have: give greedy or beam")
    _check_options(decoding, kind, beam_size=beam_size, lm=lm, lm_weight=lm_weight, word_bonus=word_bonus)
    with_tokens = kind is BeamAttention  # its language model is over tokens, not over words
    names = {"beam_size": beam_size, "lm_weight" if with_tokens else "alpha": lm_weight, "beta": word_bonus}
    options = {name: value for name, value in names.items() if value is not None}
    if lm is not None:
        options |= {"language_model": load_language_model(lm)} if with_tokens else {"kenlm_model_path": lm}
    decoder = kind(tokenizer, **options)
    decoder.lm_file = lm  # distinguishes results of language models with the same file name
    return decoder


def _check_options(decoding: str, kind: type[Decoder], *, beam_size, lm, lm_weight, word_bonus) -> None:
    """Refuse options that the decoder would not use."""
    if decoding in ("greedy", "ctc") and (lm is not None or beam_size is not None):
        raise ValueError(f"{decoding} uses no beam and no language model: give beam, lexicon or rescore")
    if decoding == "lexicon" and lm is None:
        raise ValueError("lexicon takes its words from a language model: give lm, an ARPA file")
    if lm is None and (lm_weight is not None or word_bonus is not None):
        raise ValueError("lm_weight and word_bonus need a language model: give lm")
    if kind is BeamAttention and word_bonus is not None:
        raise ValueError("word_bonus is for a KenLM over words, and beam with attention uses tokens: leave it out")
