# SPDX-License-Identifier: Apache-2.0
"""Cut a model to some of its exits: a smaller model without the layers above the deepest of them."""

import re
from collections.abc import Sequence
from inspect import signature

from torch import nn

from speechbrain_ee.lobes.heads import CTCHeads
from speechbrain_ee.model.folder import PARTS, build, to_config


def keep_exits(modules: nn.ModuleDict, exit_layers: Sequence[int]) -> nn.ModuleDict:
    """Build the model that has only some of the exits; the encoder ends at the deepest of them.

    Arguments
    ---------
    modules : nn.ModuleDict
        ``features``, ``encoder`` and ``heads``.
    exit_layers : sequence of int
        Increasing exit layers of the model.

    Returns
    -------
    nn.ModuleDict
        New modules in evaluation mode, with the same weights.

    Raises
    ------
    ValueError
        If a layer is not an exit, or the layers are not increasing.

    Example
    -------
    >>> from speechbrain_ee.lobes import CTCHeads, LogMel, TransformerExitEncoder
    >>> encoder = TransformerExitEncoder(n_mels=8, num_layers=6, exit_layers=[2, 4, 6], d_model=8, nhead=2, d_ffn=8)
    >>> heads = CTCHeads(num_exits=3, d_model=8, vocab_size=5)
    >>> cut = keep_exits(nn.ModuleDict({"features": LogMel(n_mels=8), "encoder": encoder, "heads": heads}), [2, 4])
    >>> cut["encoder"].num_layers, cut["encoder"].exit_layers
    (4, (2, 4))
    """
    found, wanted = list(modules["encoder"].exit_layers), list(exit_layers)
    if not wanted or wanted != sorted(set(wanted)) or not set(wanted) <= set(found):
        raise ValueError(f"exits {wanted} are not increasing exit layers of the model: choose from {found}")
    config = to_config({name: modules[name] for name in PARTS})
    config["encoder"] |= {"num_layers": wanted[-1], "exit_layers": wanted}
    heads = config["heads"]
    if "exit_layers" in heads:  # hybrid CTC/attention heads
        at = heads["decoders_at"]
        kept = None if at is None else [one for one in at if one in wanted]
        heads |= {"exit_layers": wanted, "decoders_at": kept}
        if kept == []:  # only exits without a decoder remain
            config["heads"] = {name: heads[name] for name in signature(CTCHeads).parameters if name in heads}
            config["heads"] |= {"class": CTCHeads.__name__, "num_exits": len(wanted)}
    else:
        heads["num_exits"] = len(wanted)
    cut = build(config)
    for name in PARTS:
        given = modules[name].state_dict()
        renumber = {} if name != "heads" else _moved_heads(modules["heads"], cut["heads"], found, wanted)
        own = cut[name].state_dict()
        cut[name].load_state_dict({key: given[_old_name(key, renumber)] for key in own})
    return cut.eval()


def _moved_heads(heads: nn.Module, cut: nn.Module, found: list[int], wanted: list[int]) -> dict[str, str]:
    """Return the old prefix of each head and decoder by its new one."""
    moved = {}
    for new, layer in enumerate(wanted):
        old = found.index(layer)
        if not heads.shared:
            moved[f"heads.{new}"] = f"heads.{old}"
        decoders = getattr(heads, "decoder_of_exit", {})
        if old in decoders:
            moved[f"decoders.{cut.decoder_of_exit[new]}"] = f"decoders.{decoders[old]}"
    return moved


def _old_name(key: str, moved: dict[str, str]) -> str:
    prefix = re.match(r"[^.]+\.\d+(?=\.)", key)
    return key if prefix is None else moved.get(prefix[0], prefix[0]) + key[prefix.end() :]
