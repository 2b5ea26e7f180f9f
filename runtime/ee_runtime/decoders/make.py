# SPDX-License-Identifier: Apache-2.0
"""Make a decoder of the runtime from its name."""

from __future__ import annotations

from ee_runtime.decoders.attention import BeamAttention, GreedyAttention, RescoreAttention
from ee_runtime.decoders.base import Decoder
from ee_runtime.decoders.greedy import GreedyCTC
from ee_runtime.decoders.prefix_beam import PrefixBeamCTC
from ee_runtime.text.vocabulary import Vocabulary

CTC_BEAM, ATTENTION_BEAM = 50, 10  # default beam sizes
WITHOUT_ATTENTION, WITH_ATTENTION = ("greedy", "beam", "ctc"), ("greedy", "beam", "rescore", "ctc")


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
        ``greedy`` or ``beam``: with attention if the model has attention decoders, else with CTC; ``rescore``: CTC
        beam search, rescored by the attention decoder; ``ctc``: greedy CTC for every model.
    tokenizer : Vocabulary
        Converts token ids to text.
    has_attention : bool
        Whether the model has attention decoders.
    beam_size : int | None
        Size of the beam; None means 50 for a CTC beam, and 10 with attention.

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
    ValueError: ctc uses no beam: leave out beam_size, or give beam
    """
    allowed = WITH_ATTENTION if has_attention else WITHOUT_ATTENTION
    if decoding not in allowed:
        raise ValueError(
            f"an export {'with' if has_attention else 'without'} attention decoders has no decoding {decoding!r}: give "
            f"{', '.join(allowed[:-1])} or {allowed[-1]}, or run the model with torch"
        )
    if decoding in ("beam", "rescore"):
        if beam_size is None:
            beam_size = ATTENTION_BEAM if has_attention else CTC_BEAM
        ctc = PrefixBeamCTC(tokenizer, beam_size=beam_size)
        if decoding == "rescore":
            return RescoreAttention(tokenizer, ctc)
        return BeamAttention(tokenizer, ctc, beam_size=beam_size) if has_attention else ctc
    if beam_size is not None:
        raise ValueError(f"{decoding} uses no beam: leave out beam_size, or give {allowed[1]}")
    return greedy_class(has_attention and decoding == "greedy")(tokenizer)
