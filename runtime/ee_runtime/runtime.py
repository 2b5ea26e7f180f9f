# SPDX-License-Identifier: Apache-2.0
"""The class that a device loads: transcribes speech with the graphs of an export."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np

from ee_runtime.calibration.file import CALIBRATION_FILE, read_calibration
from ee_runtime.decoders.base import Decoder
from ee_runtime.decoders.make import make_decoder
from ee_runtime.export_folder import Export, GraphFile, read_export
from ee_runtime.interfaces import (
    CHANGE,
    EXIT,
    EXIT_WITH_STATE,
    FEATURES,
    FIRST_SEGMENT,
    SEGMENT,
    Interface,
    memory_interface,
    step_interface,
)
from ee_runtime.onnx_attention import OnnxAttention
from ee_runtime.onnx_run import OnnxRun
from ee_runtime.policies import FixedExit, Policy, policy_from_dict
from ee_runtime.sessions import Graph
from ee_runtime.text.vocabulary import PieceVocabulary
from ee_runtime.threads import default_threads
from ee_runtime.transcriber import Transcriber
from ee_runtime.waveforms import as_float32, check_shapes

logger = logging.getLogger(__name__)


class EarlyExitRuntime(Transcriber):
    """Transcribes speech with an exported model; each utterance stops at its own exit.

    Segments above the deepest exit taken are not run. Imports no torch. Threads may share an object; they then share
    the estimate of the load for deadlines, too.

    Arguments
    ---------
    folder : str or Path
        A folder that ``speechbrain-ee export`` wrote.
    policy : Policy | None
        Decides when an utterance stops, see :mod:`ee_runtime.policies`; None means the policy of the calibration, or
        the full encoder without one.
    calibration_file : str or Path, optional
        A ``calibration.json`` of this model; None means the one in the folder, if there is one.
    decoding : str
        Name of the decoding, see :func:`ee_runtime.decoders.make.make_decoder`.
    beam_size : int | None
        Size of the beam; None means the default of the decoding.
    threads : int | None
        Threads per operation; None means ``OMP_NUM_THREADS``, or else the CPUs that this process may use.

    Raises
    ------
    ExportError
        If a file is missing, was changed or is broken.
    ValueError
        If the policy does not fit the exits, the calibration belongs to another model, or an option is out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        policy: Policy | None = None,
        calibration_file: str | Path | None = None,
        decoding: str = "greedy",
        beam_size: int | None = None,
        threads: int | None = None,
    ):
        if threads is not None and threads < 1:
            raise ValueError(f"threads={threads}: give 1 or more")
        self.export = read_export(folder)
        self.fingerprint, self.precision = self.export.model, self.export.precision
        self.error_unit = self.export.error_unit
        self.threads = threads or default_threads()
        self.calibration = _calibration(self.export, calibration_file, is_needed=policy is None)
        if policy is None and self.calibration is not None:
            policy = self.calibrated_policy = policy_from_dict(self.calibration["policy"])
        self.policy = FixedExit() if policy is None else policy
        self.check_policy(self.policy)
        self.decoder = self.make_decoder(decoding, beam_size=beam_size)
        self._features = self._graph(self.export.features, FEATURES)
        interfaces = [FIRST_SEGMENT] + [SEGMENT] * (len(self.exit_layers) - 1)
        self._segments = [self._graph(*pair) for pair in zip(self.export.segments, interfaces, strict=True)]
        self._attention = self._attention_decoders()
        interfaces = [EXIT if decoder is None else EXIT_WITH_STATE for decoder in self._attention]
        self._exits = [self._graph(*pair) for pair in zip(self.export.exits, interfaces, strict=True)]

    def make_decoder(self, decoding: str, *, beam_size: int | None = None) -> Decoder:
        """Make a decoder for this model from its name, see :func:`ee_runtime.decoders.make.make_decoder`."""
        has_attention = self.export.attention is not None
        return make_decoder(decoding, self.tokenizer, has_attention=has_attention, beam_size=beam_size)

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """See :attr:`Transcriber.exit_layers`."""
        return self.export.exit_layers

    @property
    def sample_rate(self) -> int:
        """See :attr:`Transcriber.sample_rate`."""
        return self.export.sample_rate

    @property
    def min_seconds(self) -> float:
        """See :attr:`Transcriber.min_seconds`."""
        return self.export.min_seconds

    @property
    def max_part_s(self) -> float:
        """See :attr:`Transcriber.max_part_s`."""
        return self.export.max_part_s

    @cached_property
    def tokenizer(self) -> PieceVocabulary:
        """See :attr:`Transcriber.tokenizer`."""
        return PieceVocabulary(self.export.vocab)

    def exit_parameters(self) -> list[int]:
        """See :meth:`Transcriber.exit_parameters`."""
        return list(self.export.params)

    @contextmanager
    def on_one_thread(self) -> Iterator[EarlyExitRuntime]:
        """See :meth:`Transcriber.on_one_thread`."""
        if self.threads == 1:
            yield self
            return
        other = EarlyExitRuntime(self.export.folder, policy=self.policy, threads=1)
        other.decoder, other.calibration = self.decoder, self.calibration
        yield other

    def exit_macs(self, num_frames: int, heads_run: int | None = None) -> list[int]:
        """See :meth:`Transcriber.exit_macs`."""
        return self.export.cost.exit_macs(num_frames, heads_run)

    def check_waveforms(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See :meth:`Transcriber.check_waveforms`."""
        return [as_float32(waveform) for waveform in check_shapes(waveforms)]

    def make_batch(self, waveforms: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Transcriber.make_batch`: (batch, samples) and integer lengths (batch,)."""
        num_samples = np.array([len(waveform) for waveform in waveforms], np.int64)  # not the default on Windows
        wavs = np.zeros((len(waveforms), num_samples.max()), np.float32)
        for row, waveform in zip(wavs, waveforms, strict=True):
            row[: len(waveform)] = waveform
        return wavs, num_samples

    def start(self, batch: tuple[np.ndarray, np.ndarray]) -> tuple[OnnxRun, list[int]]:
        """See :meth:`Transcriber.start`."""
        feats, num_frames = self._features(wavs=batch[0], num_samples=batch[1])
        frames, limit = self.export.cost.num_output_frames(int(num_frames.max())), self.export.max_output_frames
        if limit is not None and frames > limit:
            raise ValueError(f"{frames} encoder frames are more than the {limit} of this model: cut the audio")
        run = OnnxRun(
            self._segments,
            self._exits,
            self.exit_layers,
            change=self._change,
            score_names=self.export.score_names,
            feats=feats,
            num_frames=num_frames,
            attention=self._attention,
        )
        return run, num_frames.tolist()

    def _change(self, **arrays: np.ndarray) -> list[np.ndarray]:
        return self._change_graph(**arrays)

    @cached_property
    def _change_graph(self) -> Graph:
        return self._graph(self.export.change, CHANGE)  # few policies need it

    def _attention_decoders(self) -> list[OnnxAttention | None]:
        """Return the attention decoder of each exit; None at exits without one."""
        files = self.export.attention
        if files is None:
            return [None] * len(self.exit_layers)
        sizes = {"nhead": files.nhead, "max_length": files.max_length, "cost": files.cost}
        of_memory, of_step = memory_interface(files.cost.num_layers), step_interface(files.cost.num_layers)
        decoders = [
            OnnxAttention(self._graph(memory, of_memory), self._graph(step, of_step), **sizes)
            for memory, step in zip(files.memories, files.steps, strict=True)
        ]
        return [None if number is None else decoders[number] for number in files.decoder_of_exit]

    def _graph(self, file: GraphFile, interface: Interface) -> Graph:
        return Graph(self.export, file, self.threads, interface)


def _calibration(export: Export, calibration_file: str | Path | None, *, is_needed: bool) -> dict | None:
    """Read a calibration; that of the folder is ignored with a warning if it does not fit and is not needed."""
    if calibration_file is not None:
        return read_calibration(Path(calibration_file), export.model)
    path = export.folder / CALIBRATION_FILE
    if not path.exists():
        return None
    try:
        return read_calibration(path, export.model)
    except ValueError as error:
        if is_needed:
            raise
        logger.warning("%s; the calibration is ignored", error)
        return None
