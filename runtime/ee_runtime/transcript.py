# SPDX-License-Identifier: Apache-2.0
"""Transcripts: text, words with times and confidences, the exit taken and its cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ee_runtime.policies import Policy
from ee_runtime.policies.confidence import confidence_map, isotonic_value
from ee_runtime.segments import Stopped
from ee_runtime.text.spans import Span


@dataclass(frozen=True)
class Word:
    """One recognised word.

    Arguments
    ---------
    text : str
        The word.
    start : float
        Start in seconds from the beginning of the recording.
    end : float
        End in seconds from the beginning of the recording.
    confidence : float
        In [0, 1]: the probability that the word is right if the model was calibrated, else the lowest probability of
        its tokens.
    """

    text: str
    start: float
    end: float
    confidence: float

    def later(self, seconds: float) -> Word:
        """Return the word shifted by ``seconds``."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


@dataclass(frozen=True)
class Transcript:
    """Result of one utterance.

    Arguments
    ---------
    text : str
        The recognised words, separated by spaces.
    exit_layer : int
        Number of encoder layers that ran; for a recording that was cut, the largest number of any part.
    policy_value : float | None
        The value that the policy compared with its threshold at that exit; None for a policy without one.
    macs : int
        Multiply-accumulates of the front-end, the layers, the heads that were run and the attention decoder.
    words : list[Word]
        The words with start, end and confidence.
    expected_wer : float | None
        Word error rate in percent, predicted from the confidence at the exit taken; None without a calibration that
        counts words.
    expected_cer : float | None
        Character error rate; None without a calibration that counts characters.
    parts : list[Transcript]
        Transcripts of the parts of a long recording that was cut, else empty.
    """

    text: str
    exit_layer: int
    policy_value: float | None
    macs: int
    words: list[Word] = field(default_factory=list)
    expected_wer: float | None = None
    expected_cer: float | None = None
    parts: list[Transcript] = field(default_factory=list)


def make_transcripts(
    stopped: Stopped,
    policy: Policy,
    *,
    exit_layers: tuple[int, ...],
    cost: Callable[[int, int], Sequence[int]],
    calibration: Mapping | None = None,
    is_calibrated: bool = False,
) -> dict[int, Transcript]:
    """Make the transcripts of utterances that stopped at the same exit and are decoded.

    Arguments
    ---------
    stopped : Stopped
        The utterances and the output of the exit.
    policy : Policy
        The policy that stopped them.
    exit_layers : tuple of int
        Exit layers of the model.
    cost : callable
        ``cost(num_frames, heads_run)`` returns the MACs up to each exit.
    calibration : mapping, optional
        Contents of ``calibration.json``.
    is_calibrated : bool
        Whether the policy is that of the calibration.

    Returns
    -------
    dict of int to Transcript
        Transcripts by position in the call.
    """
    exit_index = stopped.utterances[0].exit_index
    layer, confidence = exit_layers[exit_index], (calibration or {}).get("confidence", {})
    word_map, *rate_maps = (
        confidence_map(confidence, kind, layer, is_calibrated=is_calibrated) for kind in ("words", "wer", "cer")
    )
    transcripts = {}
    for one, probs in zip(stopped.utterances, stopped.output.best_probs, strict=True):
        decoded = one.decoded[-1]
        seconds_per_frame, duration = one.facts["padded_duration"] / len(probs), one.facts["duration"]
        words = make_words(decoded.spans, seconds_per_frame, duration=duration, isotonic_map=word_map)
        expected = [None if one is None else isotonic_value(one, sum(probs) / len(probs)) for one in rate_maps]
        decoding_macs = sum(text.macs for text in one.decoded if text is not None)
        transcripts[one.position] = Transcript(
            text=decoded.text,
            exit_layer=layer,
            policy_value=policy.value(one.look(exit_index, exit_layers)),
            macs=cost(one.num_frames, len(one.scores))[exit_index] + decoding_macs,
            words=words,
            expected_wer=expected[0],
            expected_cer=expected[1],
        )
    return transcripts


def join_transcripts(parts: Sequence[Transcript], seconds: Sequence[float]) -> Transcript:
    """Join the transcripts of the parts of a recording.

    Arguments
    ---------
    parts : sequence of Transcript
        Transcripts in order.
    seconds : sequence of float
        Length of each part.

    Returns
    -------
    Transcript
        Texts and words in order, and the sum of the costs; exit and policy value of the part with the deepest exit.
    """
    starts = [sum(seconds[:index]) for index in range(len(seconds))]
    deepest = max(parts, key=lambda part: part.exit_layer)
    return Transcript(
        text=" ".join(part.text for part in parts if part.text),
        exit_layer=deepest.exit_layer,
        policy_value=deepest.policy_value,
        macs=sum(part.macs for part in parts),
        words=[word.later(start) for part, start in zip(parts, starts, strict=True) for word in part.words],
        expected_wer=_mean([part.expected_wer for part in parts], seconds),
        expected_cer=_mean([part.expected_cer for part in parts], seconds),
        parts=list(parts),
    )


def _mean(rates: Sequence[float | None], seconds: Sequence[float]) -> float | None:
    """Return the mean over the parts of a recording, weighted by their lengths; None if one is unknown."""
    if None in rates:
        return None
    return sum(rate * length for rate, length in zip(rates, seconds, strict=True)) / sum(seconds)


def make_words(
    spans: Sequence[Span], seconds_per_frame: float, *, duration: float, isotonic_map: Mapping | None = None
) -> list[Word]:
    """Convert spans to words with times in seconds and calibrated confidences.

    Arguments
    ---------
    spans : sequence of Span
        Words of a decoder.
    seconds_per_frame : float
        Length of a frame of the encoder output.
    duration : float
        Seconds of audio; no word ends later.
    isotonic_map : mapping, optional
        Confidence map of this exit, see :func:`~speechbrain_ee.calibration.confidence.fit_isotonic`.

    Returns
    -------
    list of Word
        Words in order.
    """
    return [
        Word(
            text=span.text,
            start=min(span.start * seconds_per_frame, duration),
            end=min(span.end * seconds_per_frame, duration),
            confidence=span.confidence if isotonic_map is None else isotonic_value(isotonic_map, span.confidence),
        )
        for span in spans
    ]
