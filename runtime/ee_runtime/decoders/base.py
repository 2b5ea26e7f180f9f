# SPDX-License-Identifier: Apache-2.0
"""The interface of decoders, their result, and functions that several decoders share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from ee_runtime.backend import ExitOutput
from ee_runtime.special_tokens import BLANK_INDEX
from ee_runtime.text.ctc_paths import collapse
from ee_runtime.text.normal_form import normal_form
from ee_runtime.text.spans import Span

N_BEST = 10  # hypotheses of a beam among which the posterior is shared


@dataclass(frozen=True)
class Decoded:
    """Text of one utterance and further results of its decoder; all texts are converted to NFC.

    Arguments
    ---------
    text : str
        The recognised words, separated by spaces.
    spans : list of Span
        Each word with its frames and confidence.
    scores : dict
        Exit scores that only this decoder can compute.
    macs : int
        Multiply-accumulates of the attention decoder; 0 without one.
    ctc_text : str | None
        Greedy text of the exit's CTC head; None if the decoder itself uses CTC only.
    """

    text: str
    spans: list[Span]
    scores: dict[str, float] = field(default_factory=dict)
    macs: int = 0
    ctc_text: str | None = None

    def __post_init__(self):
        # Tokens of a letter and of an accent can follow each other.
        object.__setattr__(self, "text", normal_form(self.text))
        object.__setattr__(self, "spans", [span._replace(text=normal_form(span.text)) for span in self.spans])
        if self.ctc_text is not None:
            object.__setattr__(self, "ctc_text", normal_form(self.ctc_text))


class Decoder(ABC):
    """Makes text from the output of an exit.

    ``name`` describes the decoder and its settings in reports.
    """

    name: str

    @abstractmethod
    def decode(self, output: ExitOutput) -> list[Decoded]:
        """Decode a batch; the result of an utterance does not depend on the others.

        Arguments
        ---------
        output : ExitOutput
            Output of one exit.

        Returns
        -------
        list of Decoded
            One per utterance.
        """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"


def best_tokens(output: ExitOutput) -> list[list[int]]:
    """Return the tokens of each utterance's CTC best path, without repetitions and blanks."""
    return [collapse(path) for path in output.best_paths]


def frame_confidences(output: ExitOutput) -> list[list[float]]:
    """Return the probability of the best token of each valid frame, and 1 for a blank, which belongs to no word."""
    return [
        [1.0 if token == BLANK_INDEX else prob for token, prob in zip(path, probs, strict=True)]
        for path, probs in zip(output.best_paths, output.best_probs, strict=True)
    ]


def share_of_first(scores: Sequence[float]) -> float:
    """Return the share of the first hypothesis in the probability of an n-best list, given log-probabilities.

    Example
    -------
    >>> share_of_first([-1.0, -1.0])
    0.5
    """
    largest = max(scores)
    weights = [math.exp(score - largest) for score in scores]
    return weights[0] / sum(weights)
