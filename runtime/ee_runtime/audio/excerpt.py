# SPDX-License-Identifier: Apache-2.0
"""Which part of a recording is read: an offset, a duration and a channel."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

TOLERANCE_S = 0.1  # of ends: durations in manifests are rounded
MAX_SECONDS = 100 * 3600  # no recording is longer


class ExcerptError(ValueError):
    """A recording has no such part; the message says why."""


@dataclass(frozen=True)
class Excerpt:
    """A part of a recording.

    It is cut at the recording's own sample rate, before channels are mixed and before resampling. So the result is the
    same as that of a file that has only these samples.

    Arguments
    ---------
    offset : float
        Start in seconds, >= 0; rounded to the nearest sample.
    duration : float | None
        Seconds, > 0, rounded to the nearest number of samples; None means to the end.
    channel : int | None
        The channel that is read, from 0; None means a mix of all.

    Raises
    ------
    ValueError
        If a value is out of range.

    Example
    -------
    >>> Excerpt(0.5, 1.0).samples(rate=8000, frames=16000)
    (4000, 12000)
    """

    offset: float = 0.0
    duration: float | None = None
    channel: int | None = None

    def __post_init__(self):
        if not 0 <= self.offset <= MAX_SECONDS:
            raise ValueError(f"offset is {self.offset}: it must be a number of seconds from 0 to {MAX_SECONDS}")
        if self.duration is not None and not 0 < self.duration <= MAX_SECONDS:
            raise ValueError(f"duration is {self.duration}: it must be at most {MAX_SECONDS} s and above 0, or None")
        if self.channel is not None and self.channel < 0:
            raise ValueError(f"channel is {self.channel}: channels are counted from 0")

    @classmethod
    def of_line(cls, line: Mapping) -> "Excerpt | None":
        """Return the excerpt of a line of ``utterances.jsonl``; None for a whole file.

        Example
        -------
        >>> Excerpt.of_line({"audio_filepath": "talk.wav", "offset": 60.0, "duration": 2.5})
        Excerpt(offset=60.0, duration=2.5, channel=None)
        """
        offset, channel = line.get("offset"), line.get("channel_selector")
        if offset is None and channel is None:
            return None
        return cls(offset or 0.0, None if offset is None else line["duration"], channel)

    def samples(self, rate: int, frames: int) -> tuple[int, int]:
        """Return the first sample, and the one after the last.

        Arguments
        ---------
        rate : int
            Sample rate of the recording in Hz.
        frames : int
            Samples per channel of the recording.

        Raises
        ------
        ExcerptError
            If it begins or ends after the end of the recording, by more than 0.1 s, or has no samples.
        """
        start = nearest(self.offset * rate)
        stop = frames if self.duration is None else start + nearest(self.duration * rate)
        what = f"from {self.offset:.2f} s" + ("" if self.duration is None else f" to {stop / rate:.2f} s")
        if stop - frames > TOLERANCE_S * rate or start >= frames:
            raise ExcerptError(f"has {frames / rate:.2f} s, but its part {what} is asked for: correct the offset")
        stop = min(stop, frames)
        if start == stop:
            raise ExcerptError(f"has no sample {what}: give a longer duration")
        return start, stop

    def check_channel(self, channels: int) -> None:
        """Raise :class:`ExcerptError` if the recording has no such channel."""
        if self.channel is not None and self.channel >= channels:
            raise ExcerptError(
                f"has {channels} channel{'s' if channels > 1 else ''}, but channel {self.channel} (counted from 0) is "
                "asked for: correct the channel"
            )


def nearest(value: float) -> int:
    """Round to the nearest integer, halves up."""
    return math.floor(value + 0.5)
