# SPDX-License-Identifier: Apache-2.0
"""Cost of each exit in multiply-accumulates (MACs), from the shape of a model; standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class ConvStage(NamedTuple):
    """A strided convolution over time in the front-end of an encoder.

    Arguments
    ---------
    kernel : int
        Kernel size in frames.
    stride : int
        Stride in frames.
    padding : int
        Padded frames on each side.
    macs : int
        Multiply-accumulates per output frame.

    Example
    -------
    >>> ConvStage(3, 2, 1, 0).frames(101)
    51
    """

    kernel: int
    stride: int
    padding: int
    macs: int

    def frames(self, num_frames):
        """Return the output frames of ``num_frames`` input frames (int or integer tensor)."""
        return (num_frames + 2 * self.padding - self.kernel) // self.stride + 1


class CostModel(NamedTuple):
    """Cost of a model.

    Arguments
    ---------
    min_frames : int
        Shorter inputs are padded to this number of feature frames.
    stages : sequence of ConvStage
        Convolutions from feature frames to encoder frames.
    front : sequence of int
        Rest of the front-end: constant, and MACs per encoder frame.
    layer : sequence of int
        One layer: constant, MACs per encoder frame, and per squared number of frames.
    head : int
        One exit head: MACs per encoder frame.
    segments : sequence of int
        Number of layers of each segment.

    Example
    -------
    >>> CostModel(1, [ConvStage(3, 2, 1, 10)], [0, 5], [0, 100, 1], 7, [2, 1]).exit_macs(7)  # 4 encoder frames
    [920, 1364]
    """

    min_frames: int
    stages: Sequence[ConvStage]
    front: Sequence[int]
    layer: Sequence[int]
    head: int
    segments: Sequence[int]

    @classmethod
    def from_dict(cls, values: Mapping) -> CostModel:
        """Make a model from the plain values of ``_asdict()``."""
        return cls(**values | {"stages": [ConvStage(*stage) for stage in values["stages"]]})

    def num_output_frames(self, num_frames: int) -> int:
        """Return the encoder frames of ``num_frames`` feature frames."""
        frames = max(num_frames, self.min_frames)
        for stage in self.stages:
            frames = stage.frames(frames)
        return frames

    def front_end_macs(self, num_frames: int) -> int:
        """Return the MACs of the front-end for one utterance of ``num_frames`` feature frames."""
        frames, total = max(num_frames, self.min_frames), 0
        for stage in self.stages:
            frames = stage.frames(frames)
            total += frames * stage.macs
        return total + self.front[0] + self.front[1] * frames

    def exit_macs(self, num_frames: int, heads_run: int | None = None) -> list[int]:
        """Return the MACs of one utterance up to each exit, without padding.

        Arguments
        ---------
        num_frames : int
            Feature frames of the utterance.
        heads_run : int | None
            Number of heads that are run. None means all heads up to the exit, for a policy that reads every exit; 1
            means the head of the exit alone, for a static exit.
        """
        frames = self.num_output_frames(num_frames)
        layer = self.layer[0] + self.layer[1] * frames + self.layer[2] * frames**2
        totals, total = [], self.front_end_macs(num_frames)
        for exit_index, num_layers in enumerate(self.segments):
            total += num_layers * layer
            totals.append(total + self.head * frames * (exit_index + 1 if heads_run is None else heads_run))
        return totals


class AttentionCost(NamedTuple):
    """Cost of an attention decoder that keeps keys and values.

    Arguments
    ---------
    num_layers : int
        Number of layers.
    d_model : int
        Width.
    d_ffn : int
        Width of the feed-forward networks.
    vocab_size : int
        Number of tokens.

    Example
    -------
    >>> cost = AttentionCost(num_layers=1, d_model=2, d_ffn=3, vocab_size=5)
    >>> cost.start_macs(10), cost.text_macs(10, 1), cost.text_macs(10, 2)
    (80, 90, 184)
    """

    num_layers: int
    d_model: int
    d_ffn: int
    vocab_size: int

    def start_macs(self, num_frames: int) -> int:
        """Return the MACs of the keys and values of ``num_frames`` encoder frames of one utterance."""
        return 2 * self.num_layers * num_frames * self.d_model**2

    def text_macs(self, num_frames: int, num_tokens: int) -> int:
        """Return the MACs of reading ``num_tokens`` tokens, including BOS.

        Masked attention to later tokens is not counted, so the number is the same for whole texts and token by token.
        """
        attention = 6 * self.d_model**2 + 2 * num_frames * self.d_model
        per_token = self.num_layers * (attention + 2 * self.d_model * self.d_ffn) + self.d_model * self.vocab_size
        to_the_past = self.num_layers * self.d_model * num_tokens * (num_tokens + 1)
        return num_tokens * per_token + to_the_past
