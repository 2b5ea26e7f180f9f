# SPDX-License-Identifier: Apache-2.0
"""Run the graphs of an export segment by segment, as the loop of :mod:`ee_runtime.segments` asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from ee_runtime.onnx_attention import OnnxAttention, OnnxAttentionRun
from ee_runtime.path_scores import PATH_SCORES, path_scores
from ee_runtime.sessions import Graph
from ee_runtime.text.ctc_paths import align


class OnnxOutput:
    """Output of the graph of an exit, see :class:`ee_runtime.backend.ExitOutput`.

    Arguments
    ---------
    log_probs : np.ndarray
        CTC log-probabilities, (batch, frames, vocab).
    best_log_probs : np.ndarray
        Log-probability of the most probable token of each frame, (batch, frames).
    best_tokens : np.ndarray
        The most probable token of each frame, (batch, frames).
    score_table : np.ndarray
        Exit scores, (batch, number of scores).
    lengths : np.ndarray
        Valid frames, (batch,).
    state : np.ndarray | None
        Encoder state for the attention decoder, (batch, frames, d_model); None at an exit without one.
    attention_decoder : OnnxAttention | None
        The attention decoder of the exit; None at an exit without one.
    """

    def __init__(
        self, log_probs, best_log_probs, best_tokens, score_table, lengths, *, state=None, attention_decoder=None
    ):
        self.log_probs, self.lengths, self.score_table = log_probs, lengths, score_table
        self._best_log_probs, self._best_tokens = best_log_probs, best_tokens
        self.state, self.attention_decoder = state, attention_decoder

    @cached_property
    def best_paths(self) -> list[list[int]]:
        """CTC best path of each utterance."""
        return [path[:frames].tolist() for path, frames in zip(self._best_tokens, self.lengths, strict=True)]

    @cached_property
    def best_probs(self) -> list[list[float]]:
        """Probability of the most probable token of each valid frame, by utterance."""
        probs = np.exp(self._best_log_probs)
        return [row[:frames].tolist() for row, frames in zip(probs, self.lengths, strict=True)]

    def keep(self, rows: Sequence[int]) -> OnnxOutput:
        """Return the utterances at positions ``rows`` (in order), cropped to the longest of them."""
        return self if len(rows) == len(self.lengths) else self._select(rows)

    def row(self, row: int) -> OnnxOutput:
        """Return one utterance as a batch of one without padding."""
        return self._select([row])

    def _select(self, rows: Sequence[int]) -> OnnxOutput:
        lengths = self.lengths[rows]
        frames = lengths.max()
        arrays = (self.log_probs, self._best_log_probs, self._best_tokens)
        return OnnxOutput(
            *(array[rows, :frames] for array in arrays),
            self.score_table[rows],
            lengths,
            state=None if self.state is None else self.state[rows, :frames],
            attention_decoder=self.attention_decoder,
        )

    def align(self, tokens: Sequence[int]) -> list[int]:
        """Return the most probable CTC path of a text, for a batch of one with enough frames for the text."""
        return align(self.log_probs[0], tokens)

    def start_attention(self) -> OnnxAttentionRun:
        """Start the attention decoder of the exit on this batch."""
        return self.attention_decoder.start(self.state, self.lengths)

    def check(self, vocab_size: int) -> None:
        """Check the number of tokens."""
        if self.log_probs.shape[-1] != vocab_size:
            raise ValueError(
                f"log_probs must be (batch, frames, {vocab_size}) for this vocabulary, got {self.log_probs.shape}"
            )


class OnnxRun:
    """The graphs of an encoder with the features of a batch, see :class:`ee_runtime.backend.EncoderRun`.

    Arguments
    ---------
    segments : sequence of Graph
        Graphs of the segments.
    exits : sequence of Graph
        Graphs of the exits.
    exit_layers : tuple of int
        Exit layers.
    change : callable
        ``change(log_probs=, previous_log_probs=, lengths=)`` computes the exit score that compares two exits.
    score_names : sequence of str
        Scores that the graphs of the exits compute.
    feats : np.ndarray
        (batch, frames, frame_size).
    num_frames : np.ndarray
        (batch,) valid frames, int64.
    attention : sequence of OnnxAttention | None
        The attention decoder of each exit; None at exits without one.
    """

    def __init__(
        self,
        segments: Sequence[Graph],
        exits: Sequence[Graph],
        exit_layers: tuple[int, ...],
        *,
        change: Callable[..., list[np.ndarray]],
        score_names: Sequence[str],
        feats: np.ndarray,
        num_frames: np.ndarray,
        attention: Sequence[OnnxAttention | None],
    ):
        self.exit_layers = exit_layers
        self._segments, self._exits, self._change, self._score_names = segments, exits, change, score_names
        self._x, self._lengths, self._segments_run = feats, num_frames, 0
        self._attention = attention

    def advance(self) -> None:
        """Run the next segment."""
        results = self._segments[self._segments_run](x=self._x, lengths=self._lengths)
        self._x, self._segments_run = results[0], self._segments_run + 1
        if len(results) == 2:
            self._lengths = results[1]

    def output(self, rows: Sequence[int] | None = None) -> OnnxOutput:
        """Run the head of the exit that was reached; on the utterances at positions ``rows`` only, if given."""
        x, lengths = (self._x, self._lengths) if rows is None else self._rows(rows)
        exit_index = self._segments_run - 1
        arrays, decoder = self._exits[exit_index](x=x, lengths=lengths), self._attention[exit_index]
        state = None if decoder is None else arrays.pop()
        return OnnxOutput(*arrays, lengths, state=state, attention_decoder=decoder)

    def scores(self, output: OnnxOutput, previous: OnnxOutput | None, names: Sequence[str]) -> list[dict[str, float]]:
        """Compute exit scores by name, one dict per utterance."""
        rows = path_scores(output, previous, [name for name in names if name in PATH_SCORES])
        for name in names:
            if name == "change":
                column = self._changes(output, previous)
            elif name not in PATH_SCORES:
                column = output.score_table[:, self._column(name)]
            else:
                continue
            for row, value in zip(rows, column.tolist(), strict=True):
                row[name] = value
        return rows

    def _changes(self, output: OnnxOutput, previous: OnnxOutput | None) -> np.ndarray:
        if previous is None:  # the least sure value, or NaN if a frame is NaN
            return np.array([1.0 + 0.0 * sum(probs) for probs in output.best_probs])
        arrays = {"log_probs": output.log_probs, "previous_log_probs": previous.log_probs}
        return self._change(**arrays, lengths=output.lengths)[0]

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the utterances at positions ``rows``, cropped to the longest of them."""
        self._x, self._lengths = self._rows(rows)

    def _rows(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        lengths = self._lengths[rows]
        return self._x[rows, : lengths.max()], lengths

    def _column(self, name: str) -> int:
        if name not in self._score_names:
            known = ", ".join([*self._score_names, "change", *PATH_SCORES])
            raise ValueError(f"the export does not compute the exit score {name!r}: use one of {known}")
        return self._score_names.index(name)
