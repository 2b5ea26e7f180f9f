# SPDX-License-Identifier: Apache-2.0
"""Losses over exits."""

import math
from collections.abc import Sequence

import torch
from speechbrain.nnet.losses import ctc_loss


def exit_weights(weights: str | Sequence[float], exit_layers: Sequence[int]) -> list[float]:
    """Weight of each exit's loss.

    Arguments
    ---------
    weights : str | Sequence[float]
        ``uniform``: 1 each, the paper's plain sum; ``depth``: in proportion to the exit layer, same sum as
        ``uniform``; or one number >= 0 per exit.
    exit_layers : Sequence[int]
        The exit layers.

    Returns
    -------
    list[float]
        One weight per exit.

    Raises
    ------
    ValueError
        For an unknown name, a wrong number of weights, one that is negative or not finite, or nothing but zeros.

    Example
    -------
    >>> exit_weights("depth", [1, 2, 3])
    [0.5, 1.0, 1.5]
    """
    num_exits = len(exit_layers)
    if isinstance(weights, str):
        if weights not in ("uniform", "depth"):
            raise ValueError(f"exit weights {weights!r}: give uniform, depth, or a list of {num_exits} numbers")
        if weights == "uniform":
            return [1.0] * num_exits
        return [layer * num_exits / sum(exit_layers) for layer in exit_layers]
    weights = [float(weight) for weight in weights]
    if len(weights) != num_exits:
        raise ValueError(f"got {len(weights)} exit weights for {num_exits} exits: give one per exit")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or max(weights) == 0:
        raise ValueError(f"exit weights {weights}: give finite numbers >= 0, at least one of them above 0")
    return weights


class ExitCTCLoss:
    """Weighted sum of the CTC losses of all exits (paper, equation 1).

    Lengths are those of the utterances, not of the padded batch, and targets carry no BOS or EOS: both are defects of
    the published code. An exit of weight 0 costs nothing and gives no gradient.

    Arguments
    ---------
    exit_layers : Sequence[int]
        The exit layers.
    weights : str | Sequence[float]
        See :func:`exit_weights`.
    blank_index : int
        Index of the CTC blank.
    reduction : str
        SpeechBrain's: ``mean`` (per token, then over utterances), ``batchmean`` or ``sum``.

    Example
    -------
    >>> loss = ExitCTCLoss(exit_layers=[1, 2], weights=[0, 1])
    >>> log_probs = [torch.randn(1, 9, 4).log_softmax(-1) for _ in range(2)]
    >>> total, per_exit = loss(log_probs, torch.tensor([9]), torch.tensor([[1, 2]]), torch.tensor([2]))
    >>> bool(total == per_exit[1]), per_exit[0]
    (True, None)
    """

    def __init__(
        self,
        *,
        exit_layers: Sequence[int],
        weights: str | Sequence[float] = "uniform",
        blank_index: int = 0,
        reduction: str = "mean",
    ):
        self.weights = exit_weights(weights, exit_layers)
        self.blank_index = blank_index
        self.reduction = reduction

    def __call__(
        self,
        log_probs: Sequence[torch.Tensor],
        lengths: torch.Tensor,
        tokens: torch.Tensor,
        token_lengths: torch.Tensor,
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Compute the loss.

        Arguments
        ---------
        log_probs : Sequence[torch.Tensor]
            One (batch, frames, vocab_size) per exit.
        lengths : torch.Tensor
            Valid frames, integers, (batch,).
        tokens : torch.Tensor
            Targets, (batch, tokens).
        token_lengths : torch.Tensor
            Valid tokens, integers, (batch,).

        Returns
        -------
        tuple[torch.Tensor, list[torch.Tensor | None]]
            The weighted sum, and the loss of each exit (None where its weight is 0).
        """
        per_exit = [
            self._ctc(exit_log_probs, lengths, tokens, token_lengths) if weight else None
            for exit_log_probs, weight in zip(log_probs, self.weights, strict=True)
        ]
        weighted = [weight * loss for weight, loss in zip(self.weights, per_exit, strict=True) if weight]
        return sum(weighted), per_exit

    def _ctc(self, log_probs, lengths, tokens, token_lengths) -> torch.Tensor:
        # ctc_loss takes relative lengths and rounds them back; in double this is exact
        return ctc_loss(
            log_probs,
            tokens,
            lengths.double() / log_probs.shape[1],
            token_lengths.double() / max(tokens.shape[1], 1),
            self.blank_index,
            self.reduction,
        )
