# SPDX-License-Identifier: Apache-2.0
"""The interface of encoders with exits: exit layers, segments, full and incremental runs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from ee_runtime.cost import ConvStage, CostModel
from speechbrain_ee.lobes.padding import padding_mask


def constructor_arguments(frame: dict) -> dict:
    """Return the constructor arguments among its ``locals()``, from which a saved model is rebuilt."""
    return {name: value for name, value in frame.items() if name not in ("self", "__class__")}


def check_exit_layers(exit_layers: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """Check exit layers.

    Arguments
    ---------
    exit_layers : Sequence[int]
        Number of encoder layers before each exit, increasing; the last one is ``num_layers``.
    num_layers : int
        Number of encoder layers.

    Returns
    -------
    tuple[int, ...]
        The exit layers.

    Raises
    ------
    ValueError
        If a layer is 0, too large, repeated, unsorted or not an integer, or the last layer is not an exit.

    Example
    -------
    >>> check_exit_layers([2, 4, 6], 6)
    (2, 4, 6)
    """
    layers = list(exit_layers)
    shown = f"{layers}" if len(layers) <= 50 else f"{layers[:5]} and {len(layers) - 5} more"
    allowed = f"give rising integers from 1 to num_layers={num_layers}, the last of them {num_layers}"
    if not layers:
        raise ValueError(f"exit_layers is empty: {allowed}")
    if any(not isinstance(layer, int) or isinstance(layer, bool) for layer in layers):
        raise ValueError(f"exit_layers {shown} are not all integers: {allowed}")
    if min(layers) < 1 or max(layers) > num_layers:
        raise ValueError(f"exit_layers {shown} leave the encoder: {allowed}")
    if len(set(layers)) != len(layers):
        raise ValueError(f"exit_layers {shown} repeat a layer: {allowed}")
    if layers != sorted(layers):
        raise ValueError(f"exit_layers {shown} are not sorted: {allowed}")
    if layers[-1] != num_layers:
        raise ValueError(f"exit_layers {shown} do not end at the full encoder: {allowed}")
    return tuple(layers)


@dataclass(frozen=True)
class EncoderState:
    """State of an incremental run.

    Arguments
    ---------
    x : torch.Tensor
        Output of the last layer that was run, (batch, frames, d_model).
    lengths : torch.Tensor
        Valid frames, integers, (batch,).
    segments_run : int
        Number of segments that were run: the exit index of the next exit.
    mask : torch.Tensor | None
        Padding mask in the form that the layers take; None if nothing is padded.
    pos_embs : torch.Tensor | None
        Positional encoding that every layer takes, or None.
    """

    x: torch.Tensor
    lengths: torch.Tensor
    segments_run: int = 0
    mask: torch.Tensor | None = None
    pos_embs: torch.Tensor | None = None


class ExitEncoder(nn.Module, ABC):
    """An encoder divided into segments, with an exit after each.

    ``forward`` runs the whole encoder and returns the states of all exits, for training (also under DDP) and
    evaluation. For inference, ``start`` and ``advance`` run one segment at a time, and ``keep`` drops utterances that
    have stopped. Both run the same layers. Layers above the exit taken are never called.

    Subclasses implement :meth:`front_end`, :attr:`layers`, :meth:`run_layer`, :attr:`final_norm` and the costs.

    Arguments
    ---------
    exit_layers : Sequence[int]
        See :func:`check_exit_layers`.
    num_layers : int
        Number of encoder layers.
    frame_size : int
        Size of a feature frame.
    d_model : int
        Width of the states.
    """

    def __init__(self, *, exit_layers: Sequence[int], num_layers: int, frame_size: int, d_model: int):
        super().__init__()
        self.exit_layers = check_exit_layers(exit_layers, num_layers)
        self.num_layers = num_layers
        self.frame_size = frame_size
        self.d_model = d_model

    @property
    def max_output_frames(self) -> int | None:
        """Longest input in encoder frames; None for no limit."""
        return None

    @property
    def feature_extractor(self) -> nn.Module | None:
        """Convolutions over the waveform at the start of the front-end; None if the front-end has none."""
        return None

    @property
    @abstractmethod
    def layers(self) -> nn.ModuleList:
        """The encoder layers in order."""

    @property
    @abstractmethod
    def final_norm(self) -> nn.Module | None:
        """Norm after the last layer, applied to the states of all exits; None if the encoder has none."""

    @abstractmethod
    def front_end(self, feats: torch.Tensor, num_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (batch, frames, frame_size) and lengths (batch,) -> input of layer 1 and its lengths."""

    @abstractmethod
    def run_layer(self, layer: int, state: EncoderState) -> torch.Tensor:
        """Run encoder layer ``layer`` (counted from 1): state -> (batch, frames, d_model)."""

    @property
    @abstractmethod
    def conv_stages(self) -> list[ConvStage]:
        """Strided convolutions of the front-end over time, which lead from feature frames to encoder frames."""

    @property
    def min_frames(self) -> int:
        """Shorter inputs are padded to this number of feature frames."""
        return 1

    @property
    @abstractmethod
    def front_cost(self) -> tuple[int, int]:
        """MACs of the front-end without its convolutions over time: constant, and per encoder frame."""

    @property
    @abstractmethod
    def layer_cost(self) -> tuple[int, int, int]:
        """MACs of a layer for one utterance: constant, per encoder frame, and per squared number of frames."""

    def num_output_frames(self, num_frames):
        """Return the encoder frames of ``num_frames`` feature frames (int or integer tensor)."""
        if isinstance(num_frames, torch.Tensor):
            num_frames = num_frames.clamp(min=self.min_frames)
        else:
            num_frames = max(num_frames, self.min_frames)
        for stage in self.conv_stages:
            num_frames = stage.frames(num_frames)
        return num_frames

    def cost_model(self, head_macs: int = 0) -> CostModel:
        """Return the costs of all exits, with heads of ``head_macs`` MACs per frame."""
        return CostModel(
            min_frames=self.min_frames,
            stages=self.conv_stages,
            front=self.front_cost,
            layer=self.layer_cost,
            head=head_macs,
            segments=[len(self.segment(index)) for index in range(len(self.exit_layers))],
        )

    def front_end_macs(self, num_frames: int) -> int:
        """Return the multiply-accumulates of the front-end for one utterance of ``num_frames`` feature frames."""
        return self.cost_model().front_end_macs(num_frames)

    def layer_macs(self, num_output_frames: int) -> int:
        """Return the multiply-accumulates of a layer for one utterance of ``num_output_frames`` encoder frames."""
        return sum(macs * num_output_frames**power for power, macs in enumerate(self.layer_cost))

    def start(self, feats: torch.Tensor, num_frames: torch.Tensor) -> EncoderState:
        """Run the front-end: features (batch, frames, frame_size) and integer lengths (batch,) -> state."""
        x, lengths = self.front_end(feats, num_frames)
        return EncoderState(x=x, lengths=lengths, **self._context(x, lengths))

    def exit_state(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the final norm to a layer's output: input of an exit head, (batch, frames, d_model)."""
        return x if self.final_norm is None else self.final_norm(x)

    def segment(self, exit_index: int) -> range:
        """Return the layers, counted from 1, of the segment before an exit.

        Example
        -------
        >>> from speechbrain_ee.lobes import TransformerExitEncoder
        >>> encoder = TransformerExitEncoder(
        ...     n_mels=8, num_layers=6, exit_layers=[2, 6], d_model=8, nhead=2, d_ffn=8
        ... )
        >>> list(encoder.segment(1))
        [3, 4, 5, 6]
        """
        first = self.exit_layers[exit_index - 1] if exit_index > 0 else 0
        return range(first + 1, self.exit_layers[exit_index] + 1)

    def advance(self, state: EncoderState) -> tuple[EncoderState, torch.Tensor]:
        """Run the next segment.

        Returns
        -------
        tuple[EncoderState, torch.Tensor]
            The new state, and the input of the exit head, (batch, frames, d_model).

        Raises
        ------
        ValueError
            If all segments were run.
        """
        if state.segments_run >= len(self.exit_layers):
            raise ValueError(f"all {len(self.exit_layers)} segments were run: call start() for new utterances")
        for layer in self.segment(state.segments_run):
            state = replace(state, x=self.run_layer(layer, state))
        state = replace(state, segments_run=state.segments_run + 1)
        return state, self.exit_state(state.x)

    def keep(self, state: EncoderState, index: torch.Tensor) -> EncoderState:
        """Keep the utterances at positions ``index`` (integers, (remaining,)), cropped to the longest."""
        lengths = state.lengths[index]
        frames = int(lengths.max())
        x = state.x[index, :frames]
        return replace(state, x=x, lengths=lengths, **self._context(x, lengths))

    def forward(self, feats: torch.Tensor, num_frames: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Run the whole encoder.

        Arguments
        ---------
        feats : torch.Tensor
            (batch, frames, frame_size).
        num_frames : torch.Tensor
            Valid frames, integers, (batch,).

        Returns
        -------
        tuple[list[torch.Tensor], torch.Tensor]
            One state (batch, encoder frames, d_model) per exit, and integer lengths (batch,).
        """
        state = self.start(feats, num_frames)
        states = []
        for _ in self.exit_layers:
            state, exit_state = self.advance(state)
            states.append(exit_state)
        return states, state.lengths

    def macs(self, num_frames: int) -> list[int]:
        """Return the multiply-accumulates of each segment for one utterance of ``num_frames`` feature frames.

        Segment 0 includes the front-end; exit heads are not included.
        """
        totals = self.cost_model().exit_macs(num_frames)
        return [total - before for total, before in zip(totals, [0, *totals], strict=False)]

    def layer_context(self, x: torch.Tensor, padding: torch.Tensor | None) -> dict:
        """Return the inputs of the layers besides ``x``: fields of :class:`EncoderState`.

        Arguments
        ---------
        x : torch.Tensor
            (batch, frames, d_model).
        padding : torch.Tensor | None
            (batch, frames), True at padding; None if nothing is padded.

        Returns
        -------
        dict
            ``mask``, and ``pos_embs`` if the layers take them.
        """
        return {"mask": padding}

    def _context(self, x: torch.Tensor, lengths: torch.Tensor) -> dict:
        """Return the inputs of the layers besides ``x``. In evaluation mode there is no mask if nothing is padded."""
        is_full = not self.training and bool((lengths == x.shape[1]).all())
        return self.layer_context(x, None if is_full else padding_mask(lengths, x.shape[1]))
