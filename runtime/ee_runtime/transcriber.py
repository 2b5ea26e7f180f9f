# SPDX-License-Identifier: Apache-2.0
"""What every recogniser with exits does, whatever computes its encoder: read, cut, run, stop, decode, join."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ee_runtime.audio import Excerpt, read_blocks
from ee_runtime.backend import EncoderRun
from ee_runtime.decoders.base import Decoder
from ee_runtime.long_audio import cut_stream
from ee_runtime.policies import Capped, Policy, Slowdown
from ee_runtime.policies.limits import check_above_0
from ee_runtime.segments import Stopped, UtteranceProgress, run_segments
from ee_runtime.text.error_units import WORD, ErrorUnit
from ee_runtime.text.vocabulary import Vocabulary
from ee_runtime.timing import measure_times, timed_batches
from ee_runtime.transcript import Transcript, join_transcripts, make_transcripts

logger = logging.getLogger(__name__)

MAX_CHUNK_S = 30.0  # longer recordings are cut, because the cost of attention is quadratic in the length
CHUNKS_AT_ONCE = 4


def longest_part_s(frames_of_max: int, max_frames: int | None) -> float:
    """Return the longest part of a recording in seconds: 30, or less if the encoder has a lower limit.

    Arguments
    ---------
    frames_of_max : int
        Encoder frames of :data:`MAX_CHUNK_S` seconds.
    max_frames : int | None
        Longest input in encoder frames; None for no limit.

    Example
    -------
    >>> longest_part_s(750, None), longest_part_s(751, 376)
    (30.0, 14.980026631158456)
    """
    if max_frames is None or frames_of_max <= max_frames:
        return MAX_CHUNK_S
    return MAX_CHUNK_S * (max_frames - 1) / frames_of_max


class Transcriber(ABC):
    """Transcribes speech and stops each utterance at its own exit.

    Subclasses say how waveforms become a batch and how an encoder runs on it.

    Attributes
    ----------
    policy : Policy
        Decides when an utterance stops.
    decoder : Decoder
        Makes text from an exit's output.
    fingerprint : str or None
        Hash of the model's files, to which a calibration belongs; None if it was not loaded from files.
    precision : str
        Precision of the computation.
    error_unit : ErrorUnit
        The unit of errors that the model was selected by; an evaluation uses it by default.
    calibration : mapping or None
        Contents of ``calibration.json``.
    calibrated_policy : Policy or None
        The policy for which the confidences of the calibration were fitted.
    """

    policy: Policy
    decoder: Decoder
    fingerprint: str | None = None
    precision: str = "fp32"
    error_unit: ErrorUnit = WORD
    calibration: Mapping | None = None
    calibrated_policy: Policy | None = None

    @property
    @abstractmethod
    def exit_layers(self) -> tuple[int, ...]:
        """Encoder layers at which the model can stop."""

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Sample rate of the model in Hz."""

    @property
    @abstractmethod
    def min_seconds(self) -> float:
        """Features of shorter utterances are padded to this length."""

    @property
    @abstractmethod
    def max_part_s(self) -> float:
        """Longest part of a recording in seconds, see :func:`longest_part_s`."""

    @property
    @abstractmethod
    def tokenizer(self) -> Vocabulary:
        """Converts token ids to text."""

    @abstractmethod
    def exit_parameters(self) -> list[int]:
        """Return the number of parameters of a model that is cut at each exit."""

    @abstractmethod
    def on_one_thread(self) -> AbstractContextManager[Transcriber]:
        """Return a context in which the model, as its value, uses one CPU thread."""

    @abstractmethod
    def exit_macs(self, num_frames: int, heads_run: int | None = None) -> list[int]:
        """Return the MACs up to each exit for ``num_frames`` feature frames; all heads are run, or ``heads_run``."""

    @abstractmethod
    def make_batch(self, waveforms: Sequence) -> Any:
        """Pad waveforms (samples,) that were checked to a batch."""

    @abstractmethod
    def check_waveforms(self, waveforms: Sequence) -> list:
        """Check waveforms of a caller, and convert them to the type that :meth:`make_batch` takes."""

    @abstractmethod
    def start(self, batch: Any) -> tuple[EncoderRun, list[int]]:
        """Compute the features of a batch; return the encoder before its first segment, and the feature frames."""

    def inference(self) -> AbstractContextManager:
        """Return a context for :meth:`start` and what follows it outside of :meth:`transcribe_waveforms`."""
        return nullcontext()

    def clock(self) -> float:
        """Return seconds, after the device has finished its work."""
        return time.perf_counter()

    def check_policy(self, policy: Policy) -> None:
        """Check that a policy fits the exits of the model; raises ``ValueError``."""
        for exit_index in range(len(self.exit_layers)):
            policy.needs_head(exit_index, self.exit_layers)

    def transcribe_file(
        self, path: str | Path, *, excerpt: Excerpt | None = None, policy: Policy | None = None, **limits
    ) -> Transcript:
        """Transcribe a file or an excerpt of it; a recording of more than 30 s is cut at pauses into parts.

        ``limits`` (``max_layer``, ``budget``, ``deadline_ms``) are those of :meth:`transcribe_waveforms`. The deadline
        is that of every four parts together, without the time to read them. The file is read block by block, so memory
        does not grow with its length.
        """
        return self.transcribe_parts(self.read_parts(path, excerpt=excerpt), policy=policy, **limits)

    def transcribe_parts(self, parts: Iterable[np.ndarray], *, policy: Policy | None = None, **limits) -> Transcript:
        """Transcribe the parts of one recording, four at a time, see :meth:`transcribe_file`."""
        parts, results, seconds = iter(parts), [], []
        while together := list(islice(parts, CHUNKS_AT_ONCE)):
            results += self.transcribe_waveforms(together, policy=policy, **limits)
            seconds += [len(part) / self.sample_rate for part in together]
        return results[0] if len(results) == 1 else join_transcripts(results, seconds)

    def read_parts(self, path: str | Path, *, excerpt: Excerpt | None = None) -> Iterator[np.ndarray]:
        """Read a file or an excerpt of it at the rate of the model, cut it at pauses, and yield the parts in order."""
        blocks = read_blocks(path, self.sample_rate, excerpt=excerpt)
        return cut_stream(blocks, self.sample_rate, max_seconds=self.max_part_s)

    def transcribe_waveforms(
        self,
        waveforms: Sequence,
        *,
        policy: Policy | None = None,
        max_layer: int | Callable[[], int | None] | None = None,
        budget: float | Callable[[], float | None] | None = None,
        deadline_ms: float | Callable[[], float | None] | None = None,
    ) -> list[Transcript]:
        """Transcribe waveforms of any lengths as one batch; an utterance that stops leaves the batch.

        Each limit is a number or a function without arguments, see :class:`~ee_runtime.policies.Capped`: a limit may
        change while an utterance is being processed.

        Arguments
        ---------
        waveforms : sequence of arrays
            (samples,) each: floating point from -1 to 1, int16 or int32.
        policy : Policy | None
            Decides when an utterance stops; None means the policy that the model was loaded with.
        max_layer : int, callable or None
            Deepest layer that any utterance may reach.
        budget : float, callable or None
            MACs per second of audio that an utterance may use in encoder and heads; the first exit is run at any cost.
            The cost of an attention decoder is unknown in advance and not included.
        deadline_ms : float, callable or None
            Milliseconds from the start of this call. The next segment is run only if it and the text will be ready in
            time, according to :meth:`time_exits` and to how much slower the machine was in this and earlier calls, see
            :class:`~ee_runtime.policies.Slowdown`. Call :meth:`time_exits` once after loading; otherwise the first call
            with a deadline does, logs a warning, and its time counts from then on. The time of an attention decoder is
            not included.

        Returns
        -------
        list of Transcript
            One per waveform, in order.

        Raises
        ------
        ValueError
            If shapes or types are wrong, or a limit is out of range.
        """
        waveforms = self.check_waveforms(waveforms)
        seconds = [len(waveform) / self.sample_rate for waveform in waveforms]
        limits = {"max_layer": max_layer, "budget": budget, "deadline_ms": deadline_ms}
        return self.transcribe(self.make_batch(waveforms), seconds, policy, **limits)

    def transcribe(
        self, batch: Any, seconds: Sequence[float], policy: Policy | None, *, max_layer, budget, deadline_ms
    ) -> list[Transcript]:
        """Transcribe a batch of :meth:`make_batch`, see :meth:`transcribe_waveforms`."""
        policy = self._limited(self.policy if policy is None else policy, max_layer, budget, deadline_ms)
        groups = self._run(batch, seconds, policy, self.clock())
        for stopped in groups:
            stopped.decode(self.decoder)
        options = {"exit_layers": self.exit_layers, "cost": self.exit_macs, "calibration": self.calibration}
        options["is_calibrated"] = policy is self.calibrated_policy
        transcripts = {}
        for stopped in groups:
            transcripts |= make_transcripts(stopped, policy, **options)
        return [transcripts[position] for position in range(len(seconds))]

    def _run(self, batch: Any, seconds: Sequence[float], policy: Policy, started: float) -> list[Stopped]:
        """Run segments until every utterance has stopped; decode only if a score needs a text."""
        run, num_frames = self.start(batch)
        padded = [max(own, self.min_seconds) for own in seconds]
        utterances = [
            UtteranceProgress(
                position=position,
                num_frames=frames,
                facts={"duration": own, "padded_duration": long, "call_duration": sum(padded)},
                macs=self.exit_macs(frames),
                started=started,
                clock=self.clock,
            )
            for position, (frames, own, long) in enumerate(zip(num_frames, seconds, padded, strict=True))
        ]
        return run_segments(run, utterances=utterances, policy=policy, decoder=self.decoder)

    def check_limits(self, *, max_layer=None, budget=None, deadline_ms=None) -> None:
        """Check limits before they are used; raises ``ValueError``."""
        for name, limit in {"max_layer": max_layer, "budget": budget, "deadline_ms": deadline_ms}.items():
            if limit is not None and not callable(limit):
                check_above_0({name: limit})
        if max_layer is not None:
            self.check_policy(Capped(self.policy, max_layer=max_layer))

    def _limited(self, policy: Policy, max_layer, budget, deadline_ms) -> Policy:
        self.check_limits(max_layer=max_layer, budget=budget, deadline_ms=deadline_ms)
        limits = {"max_layer": max_layer, "macs_per_s": budget, "deadline_ms": deadline_ms}
        if all(limit is None for limit in limits.values()):
            return policy
        if deadline_ms is None:
            return Capped(policy, **limits)
        return Capped(policy, **limits, **self._times_of(policy), slowdown=self._slowdown)

    def _times_of(self, policy: Policy) -> dict:
        """Return the times for deadlines, measured once for each decoder and set of scores."""
        key = (self.decoder.name, tuple(policy.score_names))
        if key not in self._times:
            begin = time.perf_counter()
            self.time_exits(policy)
            logger.warning(
                "the first call with a deadline measured this machine, which took %.1f s: call time_exits() after "
                "loading",
                time.perf_counter() - begin,
            )
        return self._times[key]

    @property
    def _times(self) -> dict[tuple, dict]:
        """Times measured for deadlines, by decoder and scores."""
        return self.__dict__.setdefault("_measured_times", {})

    @property
    def _slowdown(self) -> Slowdown:
        """Load of the machine, learned from all calls with a deadline."""
        return self.__dict__.setdefault("_learned_slowdown", Slowdown())

    def time_exits(self, policy: Policy | None = None) -> dict:
        """Measure how long each exit and its text take on this machine; deadlines need these times.

        The times are fitted as lines over the length of the audio, to noise of 2 and 10 seconds; if features are padded
        to more, to one and two utterances of the padded length. Call it once after loading, and again if the decoder
        changes or other programs start to share the machine.

        Arguments
        ---------
        policy : Policy | None
            Its scores are computed at every exit; None means the policy that the model was loaded with.

        Returns
        -------
        dict
            ``seconds_to_exit`` and ``seconds_to_text`` of :class:`~ee_runtime.policies.Capped`.
        """
        names = tuple((self.policy if policy is None else policy).score_names)
        times = measure_times(
            self._run_waveforms,
            getattr(self.decoder, "ctc", self.decoder).decode,  # an attention decoder's time depends on the text
            batches=timed_batches(self.max_part_s, self.min_seconds),
            sample_rate=self.sample_rate,
            first_layer=self.exit_layers[0],
            score_names=names,
            clock=self.clock,
        )
        self._times[self.decoder.name, names] = times
        self.__dict__.pop("_learned_slowdown", None)  # it was relative to other times
        return times

    def _run_waveforms(self, waveforms: list[np.ndarray], policy: Policy) -> list[Stopped]:
        waveforms = self.check_waveforms(waveforms)
        seconds = [len(waveform) / self.sample_rate for waveform in waveforms]
        return self._run(self.make_batch(waveforms), seconds, policy, self.clock())
