# SPDX-License-Identifier: Apache-2.0
"""Run the graphs of an attention decoder token by token, as the searches of :mod:`ee_runtime.decoders` ask for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ee_runtime.backend import Predictions
from ee_runtime.cost import AttentionCost
from ee_runtime.sessions import Graph


class OnnxAttention:
    """The graphs of an attention decoder, see :class:`ee_runtime.backend.AttentionDecoder`.

    Arguments
    ---------
    memory : Graph
        Encoder state (utterances, frames, d_model) -> for each layer, keys (utterances, heads, d_model / heads, frames)
        and values (utterances, heads, frames, d_model / heads).
    step : Graph
        ``tokens`` (utterances, hypotheses, new tokens), ``lengths`` (utterances,), the outputs of ``memory`` as
        ``memory0``, ``memory1``, ..., and keys and values of earlier tokens, (utterances, hypotheses, heads, tokens,
        d_model / heads) each, as ``past0``, ``past1``, ... -> the
        :class:`~ee_runtime.backend.Predictions`, and the keys and values with those of the new tokens.
    nhead : int
        Number of attention heads.
    max_length : int
        Largest number of tokens, including BOS.
    cost : AttentionCost
        Multiply-accumulates.
    """

    def __init__(self, memory: Graph, step: Graph, *, nhead: int, max_length: int, cost: AttentionCost):
        self._memory, self._step, self._nhead = memory, step, nhead
        self.max_length, self.cost = max_length, cost
        pairs = range(2 * cost.num_layers)  # keys and values of each layer
        self._memory_names, self._past_names = ([f"{name}{place}" for place in pairs] for name in ("memory", "past"))

    def start(self, state: np.ndarray, lengths: np.ndarray) -> OnnxAttentionRun:
        """Start decoding: encoder state (batch, frames, d_model), valid frames (batch,)."""
        return OnnxAttentionRun(self, lengths, self._memory(state=state), self._no_past(len(state)))

    def _no_past(self, batch: int) -> list[np.ndarray]:
        shape = (batch, 1, self._nhead, 0, self.cost.d_model // self._nhead)
        return [np.zeros(shape, np.float32) for _ in self._past_names]

    def step(
        self, tokens: np.ndarray, lengths: np.ndarray, memory: Sequence[np.ndarray], past: Sequence[np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Read new tokens; return predictions and the new past."""
        arrays = dict(zip([*self._memory_names, *self._past_names], [*memory, *past], strict=True))
        results = self._step(tokens=tokens, lengths=lengths, **arrays)
        return results[: len(Predictions._fields)], results[len(Predictions._fields) :]


class OnnxAttentionRun:
    """An attention decoder with keys and values, see :class:`ee_runtime.backend.AttentionRun`.

    Arguments
    ---------
    decoder : OnnxAttention
        The attention decoder.
    lengths : np.ndarray
        Valid frames, (batch,).
    memory : sequence of np.ndarray
        Keys and values of the encoder frames.
    past : sequence of np.ndarray
        Keys and values of no tokens.
    """

    def __init__(
        self, decoder: OnnxAttention, lengths: np.ndarray, memory: Sequence[np.ndarray], past: Sequence[np.ndarray]
    ):
        self._decoder, self._lengths, self._memory, self._past = decoder, lengths, memory, past

    @property
    def num_tokens(self) -> int:
        """Number of tokens read, including BOS."""
        return self._past[0].shape[3]

    def read(self, tokens: Sequence[Sequence[int]]) -> Predictions:
        """Read new tokens (hypotheses, new tokens).

        Raises
        ------
        ValueError
            If there are more tokens than the attention decoder can read.
        """
        table, most = np.array(tokens, np.int64), self._decoder.max_length
        if (number := self.num_tokens + table.shape[1]) > most:
            raise ValueError(f"{number} tokens are more than max_length={most}: cut the text")
        by_utterance = table.reshape(len(self._lengths), -1, table.shape[1])
        found, self._past = self._decoder.step(by_utterance, self._lengths, self._memory, self._past)
        return Predictions(*(one.reshape(len(table), *one.shape[2:]) for one in found))

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the hypotheses at positions ``rows``; those of one utterance share its encoder frames."""
        if len(self._lengths) == 1:
            self._past = [one[:, rows] for one in self._past]
        else:
            self._lengths, self._memory, self._past = (
                self._lengths[rows],
                [one[rows] for one in self._memory],
                [one[rows] for one in self._past],
            )

    def cut(self, num_tokens: int) -> None:
        """Keep only the first ``num_tokens`` tokens."""
        if num_tokens < self.num_tokens:
            self._past = [one[:, :, :, :num_tokens] for one in self._past]
