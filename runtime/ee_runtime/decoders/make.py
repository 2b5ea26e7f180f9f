# SPDX-License-Identifier: Apache-2.0
"""Make a decoder of the runtime from its name."""

from __future__ import annotations

from ee_runtime.decoders.attention import GreedyAttention, RescoreAttention
from ee_runtime.decoders.base import Decoder
from ee_runtime.decoders.greedy import GreedyCTC
from ee_runtime.decoders.prefix_beam import PrefixBeamCTC
from ee_runtime.text.vocabulary import Vocabulary

CTC_BEAM, RESCORED_BEAM = 50, 10  # default beam sizes
WITHOUT_ATTENTION, WITH_ATTENTION = ("greedy", "beam", "ctc"), ("greedy", "rescore", "ctc")


def greedy_class(has_attention: bool) -> type[Decoder]:
    """Return the class of the default decoder of a model with or without attention decoders."""
    return GreedyAttention if has_attention else GreedyCTC


def make_decoder(
    decoding: str, tokenizer: Vocabulary, *, has_attention: bool = False, beam_size: int | None = None
) -> Decoder:
    """Make a decoder from its name.

    Arguments
    ---------
    decoding : str
        ``greedy``: with attention if the model has attention decoders, else with CTC; ``beam``: CTC prefix beam search,
        for models without attention decoders; ``rescore``: CTC prefix beam search, rescored by the attention decoder;
        ``ctc``: greedy CTC for every model.
    tokenizer : Vocabulary
        Converts token ids to text.
    has_attention : bool
        Whether the model has attention decoders.
    beam_size : int | None
        Size of the beam; None means 50 for ``beam`` and 10 for ``rescore``.

    Returns
    -------
    Decoder
        The decoder.

    Raises
    ------
    ValueError
        If the export cannot be decoded so, or the decoding does not use a beam.

    Example
    -------
    >>> from ee_runtime.text.vocabulary import PieceVocabulary
    >>> vocabulary = PieceVocabulary(["<unk>", "<s>", "</s>", "▁a"])
    >>> make_decoder("greedy", vocabulary, has_attention=True)
    <GreedyAttention: greedy attention>
    >>> make_decoder("ctc", vocabulary, has_attention=True, beam_size=3)
    Traceback (most recent call last):
    ValueError: ctc uses no beam: leave out beam_size, or give rescore
    """
    allowed = WITH_ATTENTION if has_attention else WITHOUT_ATTENTION
    if decoding not in allowed:
        raise ValueError(
            f"an export {'with' if has_attention else 'without'} attention decoders has no decoding {decoding!r}: give "
            f"{', '.join(allowed[:-1])} or {allowed[-1]}, or run the model with torch"
        )
    if decoding == "beam":
        return PrefixBeamCTC(tokenizer, beam_size=CTC_BEAM if beam_size is None else beam_size)
    if decoding == "rescore":
        beam = PrefixBeamCTC(tokenizer, beam_size=RESCORED_BEAM if beam_size is None else beam_size)
        return RescoreAttention(tokenizer, beam)
    if beam_size is not None:
        raise ValueError(f"{decoding} uses no beam: leave out beam_size, or give {allowed[1]}")
    return greedy_class(has_attention and decoding == "greedy")(tokenizer)
