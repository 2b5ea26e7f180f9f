#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Use the losses alone: three exits on recurrent layers, in plain PyTorch.

python examples/losses.py [--steps 60]

The loss takes one ``ExitOutput`` per exit: log-probabilities and integer lengths. Where they come from does not matter.
"""

import argparse

import torch
from torch import nn

from speechbrain_ee import ExitCTCLoss
from speechbrain_ee.lobes import ExitOutput

VOCAB_SIZE, BLANK = 9, 8  # the blank may have any index
EXIT_LAYERS = [1, 2, 3]


class Recogniser(nn.Module):
    """A stack of GRU layers with a linear layer after each."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.layers = nn.ModuleList(nn.GRU(8 if i == 0 else width, width, batch_first=True) for i in range(3))
        self.heads = nn.ModuleList(nn.Linear(width, VOCAB_SIZE) for _ in EXIT_LAYERS)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> list[ExitOutput]:
        """Frames (batch, frames, 8) and integer lengths (batch,) -> one output per exit."""
        outputs = []
        for layer, head in zip(self.layers, self.heads, strict=True):
            x, _ = layer(x)
            outputs.append(ExitOutput(head(x).log_softmax(-1), lengths))
        return outputs


def make_batch(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Texts of random tokens, and frames in which each token is a vector that lasts for three frames."""
    token_lengths = torch.tensor([6, 5, 3, 2])
    tokens = torch.randint(0, BLANK, (4, 6), generator=generator)
    frames = nn.functional.one_hot(tokens, 8).float().repeat_interleave(3, dim=1)
    return frames + 0.1 * torch.randn(frames.shape, generator=generator), 3 * token_lengths, tokens, token_lengths


def main(argv: list[str] | None = None) -> list[list[float]]:
    """Train; print the loss of every exit in the first and the last step; return those of all steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps")
    steps = parser.parse_args(argv).steps
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = Recogniser()
    loss = ExitCTCLoss(exit_layers=EXIT_LAYERS, weights="depth", distillation=0.1, blank_index=BLANK)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    history = []
    for _ in range(steps):
        frames, lengths, tokens, token_lengths = make_batch(generator)
        outputs = model(frames, lengths)
        total, per_exit = loss(outputs, tokens, token_lengths)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append([one.item() for one in per_exit])
    for layer, before, after in zip(EXIT_LAYERS, history[0], history[-1], strict=True):
        print(f"exit layer {layer}: loss {before:.2f} -> {after:.2f}")
    return history


if __name__ == "__main__":
    main()
