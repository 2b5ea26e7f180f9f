# SPDX-License-Identifier: Apache-2.0
"""Losses over all exits: CTC, joint CTC/attention, and distillation from the last exit."""

import math
from collections.abc import Sequence

import torch

from ee_runtime.special_tokens import BLANK_INDEX, EOS_INDEX
from speechbrain_ee.lobes.heads import ExitOutput
from speechbrain_ee.lobes.padding import padding_mask, zero_padding

NO_TARGET = -100  # torch's
REDUCTIONS = ("mean", "batchmean", "sum")


def exit_weights(weights: str | Sequence[float], exit_layers: Sequence[int]) -> list[float]:
    """Return the weight of each exit's loss.

    Arguments
    ---------
    weights : str | Sequence[float]
        ``uniform``: 1 for each exit, the paper's plain sum; ``depth``: proportional to the exit layer, with the same
        sum as ``uniform``; or one number >= 0 per exit.
    exit_layers : Sequence[int]
        The exit layers.

    Returns
    -------
    list[float]
        One weight per exit.

    Raises
    ------
    ValueError
        If the name is unknown, the number of weights is wrong, a weight is negative or not finite, or all are 0.

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
    if not isinstance(weights, Sequence):
        raise ValueError(f"exit weights {weights!r}: give uniform, depth, or a list of {num_exits} numbers")
    weights = [float(weight) for weight in weights]
    if len(weights) != num_exits:
        raise ValueError(f"got {len(weights)} exit weights for {num_exits} exits: give one per exit")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or max(weights) == 0:
        raise ValueError(f"exit weights {weights}: give finite numbers >= 0, at least one of them above 0")
    return weights


class ExitCTCLoss:
    """Weighted sum of the CTC losses of all exits (paper, equation 1).

    Lengths are those of the utterances and not of the padded batch, and targets have no BOS or EOS; the code published
    with the paper differs in both. An exit of weight 0 gets no gradient, although its head is run.

    If ``distillation`` is above 0, every exit but the last also learns from the last exit: the Kullback-Leibler
    divergence between their frame-wise token distributions is added to its loss, also on the validation set. The last
    exit gets no gradient from it.

    An utterance with fewer frames than CTC needs for its text has a loss of 0 and no gradient (``zero_infinity``).
    Remove such utterances from the training data, see :func:`~speechbrain_ee.corpora.checks.drop_too_short`.

    Arguments
    ---------
    exit_layers : Sequence[int]
        The exit layers.
    weights : str | Sequence[float]
        See :func:`exit_weights`.
    blank_index : int
        Index of the CTC blank; another tokenizer than that of this package may have another one.
    reduction : str
        As in SpeechBrain: ``mean`` (per token, then over utterances), ``batchmean`` or ``sum``.
    distillation : float
        Weight of the divergence from the last exit; 0 disables distillation.

    Raises
    ------
    ValueError
        If a number is out of range or the reduction is unknown; in a call, if the blank is outside the vocabulary, or
        occurs in a target of training. (Texts of a validation set may have characters that the tokenizer does not
        know.)

    Example
    -------
    >>> loss = ExitCTCLoss(exit_layers=[1, 2], weights=[0, 1])
    >>> outputs = [ExitOutput(torch.randn(1, 9, 4).log_softmax(-1), torch.tensor([9])) for _ in range(2)]
    >>> total, per_exit = loss(outputs, torch.tensor([[1, 2]]), torch.tensor([2]))
    >>> bool(total == per_exit[1]), per_exit[0]
    (True, None)
    """

    def __init__(
        self,
        *,
        exit_layers: Sequence[int],
        weights: str | Sequence[float] = "uniform",
        blank_index: int = BLANK_INDEX,
        reduction: str = "mean",
        distillation: float = 0.0,
    ):
        if not distillation >= 0:
            raise ValueError(f"distillation={distillation}: give a number >= 0")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction is {reduction!r}: choose from {', '.join(REDUCTIONS)}")
        self.distillation = distillation
        self.weights = exit_weights(weights, exit_layers)
        self.blank_index = blank_index
        self.reduction = reduction

    def __call__(
        self, outputs: Sequence[ExitOutput], tokens: torch.Tensor, token_lengths: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Compute the loss.

        Arguments
        ---------
        outputs : Sequence[ExitOutput]
            Outputs of the heads, one per exit.
        tokens : torch.Tensor
            Targets, (batch, tokens).
        token_lengths : torch.Tensor
            Valid tokens, integers, (batch,).

        Returns
        -------
        tuple[torch.Tensor, list[torch.Tensor | None]]
            The weighted sum, and the loss of each exit (None if its weight is 0).
        """
        self._check_blank(outputs[0].log_probs, tokens, token_lengths)
        per_exit = [
            self.exit_loss(output, tokens, token_lengths) if weight else None
            for output, weight in zip(outputs, self.weights, strict=True)
        ]
        if self.distillation:
            for index, loss in enumerate(per_exit[:-1]):
                if loss is not None:
                    divergence = self._divergence(outputs[index], outputs[-1], token_lengths)
                    per_exit[index] = loss + self.distillation * divergence
        weighted = [weight * loss for weight, loss in zip(self.weights, per_exit, strict=True) if weight]
        return sum(weighted), per_exit

    def _check_blank(self, log_probs: torch.Tensor, tokens: torch.Tensor, token_lengths: torch.Tensor) -> None:
        """Check that no target of training contains the blank; torch would train on it without an error."""
        vocab_size, is_training = log_probs.shape[-1], log_probs.requires_grad
        if not 0 <= self.blank_index < vocab_size:
            raise ValueError(f"blank_index {self.blank_index} is outside the vocabulary: choose 0..{vocab_size - 1}")
        if is_training and ((tokens == self.blank_index) & ~padding_mask(token_lengths, tokens.shape[1])).any():
            raise ValueError(
                f"a target contains token {self.blank_index}, the blank: give the blank_index of the tokenizer, or, if "
                "this is also its <unk>, remove characters that it does not know from the training texts"
            )

    def _divergence(self, student: ExitOutput, teacher: ExitOutput, token_lengths: torch.Tensor) -> torch.Tensor:
        """Sum the divergence over frames, and reduce it like the CTC loss."""
        target = teacher.log_probs.detach()
        by_frame = (target.exp() * (target - student.log_probs)).sum(-1)
        return self._reduce(zero_padding(by_frame, student.lengths).sum(1), token_lengths)

    def exit_loss(self, output: ExitOutput, tokens: torch.Tensor, token_lengths: torch.Tensor) -> torch.Tensor:
        """Return the unweighted loss of one exit."""
        losses = torch.nn.functional.ctc_loss(
            output.log_probs.transpose(0, 1),
            tokens,
            output.lengths,
            token_lengths,
            self.blank_index,
            reduction="none",
            zero_infinity=True,
        )
        return self._reduce(losses, token_lengths)

    def part_factor(self, share: float, num_parts: int) -> float:
        """Return the factor with which the loss of a part of a step is multiplied.

        The parts of an optimizer step may have different numbers of utterances. SpeechBrain and DDP take the mean of
        the gradients of all parts. With this factor, that mean is the gradient of the loss of all utterances together.

        Arguments
        ---------
        share : float
            Number of utterances of the part / number of utterances of the step.
        num_parts : int
            Number of parts: processes times ``grad_accumulation_factor``.

        Returns
        -------
        float
            ``num_parts * share``; with the reduction ``sum``, ``num_parts`` for every part that has a share.

        Example
        -------
        >>> loss = ExitCTCLoss(exit_layers=[1])
        >>> [loss.part_factor(share, 2) for share in (0.75, 0.25)]
        [1.5, 0.5]
        """
        return num_parts * (share if self.reduction != "sum" else float(share > 0))

    def _reduce(self, losses: torch.Tensor, token_lengths: torch.Tensor) -> torch.Tensor:
        """Reduce the losses of utterances, (batch,), to a scalar."""
        if self.reduction == "mean":
            losses = losses / token_lengths.clamp(min=1)
        return losses.sum() if self.reduction == "sum" else losses.mean()


def attention_targets(tokens: torch.Tensor, token_lengths: torch.Tensor) -> torch.Tensor:
    """Append EOS to each text and pad with :data:`NO_TARGET`: (batch, tokens) -> (batch, tokens + 1).

    Example
    -------
    >>> attention_targets(torch.tensor([[5, 6], [7, 0]]), torch.tensor([2, 1]))
    tensor([[   5,    6,    2],
            [   7,    2, -100]])
    """
    targets = torch.nn.functional.pad(tokens, (0, 1), value=EOS_INDEX)
    positions = torch.arange(targets.shape[1], device=targets.device)
    targets = torch.where(positions == token_lengths.unsqueeze(1), EOS_INDEX, targets)
    return targets.masked_fill(positions > token_lengths.unsqueeze(1), NO_TARGET)


class ExitJointLoss(ExitCTCLoss):
    """Weighted sum over exits of ``ctc_weight * CTC + (1 - ctc_weight) * attention``.

    The attention part is the cross entropy of the targets and EOS with teacher forcing. An exit without an attention
    decoder has only the CTC loss.

    Arguments
    ---------
    ctc_weight : float
        Weight of the CTC loss, from 0 to 1; the paper uses 0.3.
    label_smoothing : float
        Label smoothing of the attention part, as in torch: share of the probability spread over all tokens.
    **arguments
        See :class:`ExitCTCLoss`; ``mean`` of the attention part is per token, including EOS.

    Example
    -------
    >>> loss = ExitJointLoss(exit_layers=[1], ctc_weight=0.0)
    >>> uniform = torch.zeros(1, 3, 4).log_softmax(-1)
    >>> attention = {"attention_decoder": torch.nn.Identity(), "attention_log_probs": uniform}
    >>> output = ExitOutput(uniform, torch.tensor([3]), **attention)
    >>> total, _ = loss([output], torch.tensor([[3, 3]]), torch.tensor([2]))
    >>> round(float(total.exp()), 4)
    4.0
    """

    def __init__(self, *, ctc_weight: float = 0.3, label_smoothing: float = 0.0, **arguments):
        super().__init__(**arguments)
        for name, value in (("ctc_weight", ctc_weight), ("label_smoothing", label_smoothing)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value}: give a number from 0 to 1")
        self.ctc_weight, self.label_smoothing = ctc_weight, label_smoothing

    def exit_loss(self, output: ExitOutput, tokens: torch.Tensor, token_lengths: torch.Tensor) -> torch.Tensor:
        """Return the unweighted joint loss of one exit, see :meth:`ExitCTCLoss.exit_loss`."""
        ctc = super().exit_loss(output, tokens, token_lengths)
        if output.attention_decoder is None:
            return ctc
        if output.attention_log_probs is None:  # this decoder was not drawn for this batch
            return self.ctc_weight * ctc
        attention = self._attention(output.attention_log_probs, tokens, token_lengths)
        return self.ctc_weight * ctc + (1 - self.ctc_weight) * output.attention_weight * attention

    def _attention(self, log_probs, tokens, token_lengths) -> torch.Tensor:
        targets = attention_targets(tokens, token_lengths)
        options = {"ignore_index": NO_TARGET, "label_smoothing": self.label_smoothing, "reduction": "none"}
        losses = torch.nn.functional.cross_entropy(log_probs.transpose(1, 2), targets, **options).sum(1)
        return self._reduce(losses, token_lengths + 1)
