# SPDX-License-Identifier: Apache-2.0
"""Run an attention decoder of torch token by token, as the searches of :mod:`ee_runtime.decoders` ask for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ee_runtime.backend import Predictions
from speechbrain_ee.lobes.attention_decoder import AttentionDecoder, DecoderState
from speechbrain_ee.lobes.entropy import shannon_entropy


class TorchAttentionRun:
    """An attention decoder with its state, see :class:`ee_runtime.backend.AttentionRun`.

    Arguments
    ---------
    attention_decoder : AttentionDecoder
        The attention decoder.
    state : DecoderState
        Its state after ``start``.

    Example
    -------
    >>> decoder = AttentionDecoder(d_model=16, vocab_size=9, nhead=2, d_ffn=32, num_layers=2).eval()
    >>> run = TorchAttentionRun(decoder, decoder.start(torch.randn(2, 20, 16), torch.tensor([20, 13])))
    >>> run.read([[1, 5, 4], [1, 7, 8]]).log_probs.shape
    torch.Size([2, 3, 9])
    """

    def __init__(self, attention_decoder: AttentionDecoder, state: DecoderState):
        self._decoder, self._state = attention_decoder, state

    @property
    def num_tokens(self) -> int:
        """Number of tokens read, including BOS."""
        return self._state.num_tokens

    @torch.no_grad()
    def read(self, tokens: Sequence[Sequence[int]]) -> Predictions:
        """Read new tokens (hypotheses, new tokens)."""
        self._state, log_probs = self._decoder.advance(self._state, torch.tensor(tokens, device=self._device))
        best = log_probs.max(-1)
        return Predictions(log_probs, best.values, best.indices, shannon_entropy(log_probs))

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the hypotheses at positions ``rows``."""
        self._state = self._state.select(torch.tensor(rows, device=self._device))

    def cut(self, num_tokens: int) -> None:
        """Keep only the first ``num_tokens`` tokens."""
        self._state = self._state.cut(num_tokens)

    @property
    def _device(self) -> torch.device:
        return self._state.memory[0][0].device
