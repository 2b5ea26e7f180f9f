# SPDX-License-Identifier: Apache-2.0
"""The attention decoders of an export: the part of ``export.json`` about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ee_runtime.cost import AttentionCost
from ee_runtime.export_checks import GraphFile, graph_files, number

MAX_LAYERS, MAX_WIDTH, MAX_TOKENS = 200, 2**20, 2**20


class AttentionExport(NamedTuple):
    """Attention decoders.

    Arguments
    ---------
    decoder_of_exit : tuple of int | None
        Number of the decoder of each exit; None at exits without one.
    nhead : int
        Number of attention heads.
    max_length : int
        Largest number of tokens, including BOS.
    cost : AttentionCost
        Multiply-accumulates of one decoder; all have the same sizes.
    memories : list of GraphFile
        Encoder state to keys and values, one graph per decoder.
    steps : list of GraphFile
        New tokens to predictions, one graph per decoder.
    """

    decoder_of_exit: tuple[int | None, ...]
    nhead: int
    max_length: int
    cost: AttentionCost
    memories: list[GraphFile]
    steps: list[GraphFile]

    def num_bytes(self, exit_index: int) -> int:
        """Return the size of the graphs of an exit's decoder; 0 at an exit without one."""
        number = self.decoder_of_exit[exit_index]
        return 0 if number is None else self.memories[number].size + self.steps[number].size


def read_attention(values: Mapping, num_exits: int, vocab_size: int) -> AttentionExport:
    """Read and check the part of ``export.json`` about attention decoders.

    Raises
    ------
    ValueError
        If a value has a wrong type or is out of range.
    KeyError
        If an entry is missing.
    """
    given = values["attention"]
    if not isinstance(given, dict):
        raise ValueError("attention is not an object")
    memories, steps = (graph_files(values["graphs"], name) for name in ("memories", "steps"))
    if len(memories) != len(steps):
        raise ValueError(f"there are {len(memories)} memories for {len(steps)} steps of attention decoders")
    cost = _cost(given["cost"], vocab_size)
    nhead = number(given, "nhead", int, 1, cost.d_model)
    if cost.d_model % nhead:
        raise ValueError(f"d_model {cost.d_model} of the attention decoders is not a multiple of nhead {nhead}")
    return AttentionExport(
        decoder_of_exit=_decoder_of_exit(given["decoder_of_exit"], num_exits, len(steps)),
        nhead=nhead,
        max_length=number(given, "max_length", int, 1, MAX_TOKENS),
        cost=cost,
        memories=memories,
        steps=steps,
    )


def _decoder_of_exit(given: object, num_exits: int, num_decoders: int) -> tuple[int | None, ...]:
    if not isinstance(given, list) or len(given) != num_exits:
        raise ValueError(f"decoder_of_exit is not a list of {num_exits} decoders, one per exit")
    named = [one for one in given if one is not None]
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in named):
        raise ValueError("decoder_of_exit has entries that are not integers or null")
    if set(named) != set(range(num_decoders)):
        raise ValueError(f"decoder_of_exit does not name each of the {num_decoders} attention decoders")
    return tuple(given)


def _cost(given: object, vocab_size: int) -> AttentionCost:
    if not isinstance(given, dict) or set(given) != set(AttentionCost._fields):
        raise ValueError(f"the cost of attention lacks entries, or has others than {', '.join(AttentionCost._fields)}")
    most = AttentionCost(MAX_LAYERS, MAX_WIDTH, MAX_WIDTH, vocab_size)
    cost = AttentionCost(*(number(given, name, int, 1, getattr(most, name)) for name in AttentionCost._fields))
    if cost.vocab_size != vocab_size:
        raise ValueError(f"attention decoders have {cost.vocab_size} tokens, vocab has {vocab_size}")
    return cost
