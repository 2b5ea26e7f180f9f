# SPDX-License-Identifier: Apache-2.0
"""What becomes of a recording: text, words, the exit taken, the cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from speechbrain_ee.words import Word


@dataclass(frozen=True)
class Transcript:
    """What became of one utterance.

    Arguments
    ---------
    text : str
        The words.
    exit_layer : int
        Encoder layers that ran; of a recording that was cut, the most that any part took.
    score : float | None
        What the policy looked at, at that exit; None for a policy that looks at no score.
    macs : int
        Multiply-accumulates spent: front-end, layers, the heads that were run and the attention decoder.
    words : list[Word]
        Each with its start and end in seconds and its confidence.
    expected_wer : float | None
        Percent, predicted from the exit taken; None where the model was not calibrated.
    parts : list[Transcript]
        One per part where a long recording was cut, else empty.
    """

    text: str
    exit_layer: int
    score: float | None
    macs: int
    words: list[Word] = field(default_factory=list)
    expected_wer: float | None = None
    parts: list["Transcript"] = field(default_factory=list)


def join_transcripts(parts: Sequence[Transcript], seconds: Sequence[float]) -> Transcript:
    """Join the parts of a recording that was cut.

    Arguments
    ---------
    parts : sequence of Transcript
        In order.
    seconds : sequence of float
        How long each part is.

    Returns
    -------
    Transcript
        Texts and words in order, costs added; exit and score of the part that went deepest.
    """
    starts = [sum(seconds[:index]) for index in range(len(seconds))]
    known = all(part.expected_wer is not None for part in parts)
    expected = sum(part.expected_wer * length for part, length in zip(parts, seconds, strict=True)) if known else 0.0
    deepest = max(parts, key=lambda part: part.exit_layer)
    return Transcript(
        text=" ".join(part.text for part in parts if part.text),
        exit_layer=deepest.exit_layer,
        score=deepest.score,
        macs=sum(part.macs for part in parts),
        words=[word.later(start) for part, start in zip(parts, starts, strict=True) for word in part.words],
        expected_wer=expected / sum(seconds) if known else None,
        parts=list(parts),
    )
