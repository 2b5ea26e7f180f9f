# SPDX-License-Identifier: Apache-2.0
"""What becomes of a recording: text, words, the exit taken, the cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from speechbrain_ee.policies.confidence import isotonic_value
from speechbrain_ee.text.spans import Span


@dataclass(frozen=True)
class Word:
    """One recognised word.

    Arguments
    ---------
    text : str
        The word.
    start : float
        Seconds from the beginning of the recording.
    end : float
        Seconds from the beginning of the recording.
    confidence : float
        In [0, 1]: the chance that the word is right where the model was calibrated, else the lowest probability of its
        tokens.
    """

    text: str
    start: float
    end: float
    confidence: float

    def later(self, seconds: float) -> "Word":
        """Move the word."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


@dataclass(frozen=True)
class Transcript:
    """What became of one utterance.

    Arguments
    ---------
    text : str
        The words.
    exit_layer : int
        Encoder layers that ran; of a recording that was cut, the most that any part took.
    policy_value : float | None
        The value that the policy compared with its threshold at that exit; None for a policy without one.
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
    policy_value: float | None
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
        Texts and words in order, costs added; exit and policy value of the part that went deepest.
    """
    starts = [sum(seconds[:index]) for index in range(len(seconds))]
    known = all(part.expected_wer is not None for part in parts)
    expected = sum(part.expected_wer * length for part, length in zip(parts, seconds, strict=True)) if known else 0.0
    deepest = max(parts, key=lambda part: part.exit_layer)
    return Transcript(
        text=" ".join(part.text for part in parts if part.text),
        exit_layer=deepest.exit_layer,
        policy_value=deepest.policy_value,
        macs=sum(part.macs for part in parts),
        words=[word.later(start) for part, start in zip(parts, starts, strict=True) for word in part.words],
        expected_wer=expected / sum(seconds) if known else None,
        parts=list(parts),
    )


def make_words(
    spans: Sequence[Span], *, seconds_per_frame: float, duration: float, calibration: Mapping | None = None
) -> list[Word]:
    """Give words their times in seconds and calibrated confidences.

    Arguments
    ---------
    spans : sequence of Span
        What a decoder found.
    seconds_per_frame : float
        Of the encoder's output.
    duration : float
        Seconds of audio, where the last word ends at the latest.
    calibration : mapping, optional
        Knots of :func:`~speechbrain_ee.calibration.confidence.fit_isotonic` for this exit.

    Returns
    -------
    list of Word
        In order.
    """
    return [
        Word(
            text=span.text,
            start=min(span.start * seconds_per_frame, duration),
            end=min(span.end * seconds_per_frame, duration),
            confidence=span.confidence if calibration is None else isotonic_value(calibration, span.confidence),
        )
        for span in spans
    ]
