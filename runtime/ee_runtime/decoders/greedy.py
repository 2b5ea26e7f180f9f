# SPDX-License-Identifier: Apache-2.0
"""Greedy decoding of CTC outputs."""

from __future__ import annotations

from ee_runtime.backend import ExitOutput
from ee_runtime.decoders.base import Decoded, Decoder, best_tokens, frame_confidences
from ee_runtime.text.spans import greedy_spans
from ee_runtime.text.vocabulary import Vocabulary


class GreedyCTC(Decoder):
    """Takes the best token of every frame, merges repetitions and removes blanks.

    Arguments
    ---------
    tokenizer : Vocabulary
        Converts token ids to text.

    Example
    -------
    >>> from ee_runtime.text.vocabulary import PieceVocabulary
    >>> class Output:
    ...     best_paths, best_probs = [[3, 3, 0, 4]], [[0.9, 0.8, 0.9, 0.7]]
    ...     def check(self, vocab_size):
    ...         pass
    >>> GreedyCTC(PieceVocabulary(["<unk>", "<s>", "</s>", "▁a", "b"])).decode(Output())[0].text
    'ab'
    """

    name = "greedy CTC"

    def __init__(self, tokenizer: Vocabulary):
        self.tokenizer = tokenizer

    def decode(self, output: ExitOutput) -> list[Decoded]:
        """See :meth:`Decoder.decode`; words have frames and confidences."""
        output.check(self.tokenizer.vocab_size)
        rows = zip(best_tokens(output), output.best_paths, frame_confidences(output), strict=True)
        return [
            Decoded(self.tokenizer.decode(tokens), greedy_spans(path, confidences, self.tokenizer))
            for tokens, path, confidences in rows
        ]
