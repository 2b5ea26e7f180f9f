# SPDX-License-Identifier: Apache-2.0
"""Write a run folder from the modules of another SpeechBrain recipe."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from speechbrain.lobes.features import Fbank
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.distributed import if_main_process
from torch import nn

from ee_runtime.files import write_whole
from speechbrain_ee.lobes.features import Features
from speechbrain_ee.lobes.heads import CTCHeads
from speechbrain_ee.lobes.stock import log_mel
from speechbrain_ee.model.folder import LOBES, TOKENIZER_FILE, check_model, save_model
from speechbrain_ee.text.foreign_labels import Labels, read_labels

logger = logging.getLogger(__name__)

NEVER = -1000.0  # logit of a token that the recipe's model does not have: its probability is 0 in float32
HINTS = {
    "features": "give the recipe's Fbank, or LogMel",
    "encoder": "make it with speechbrain_ee.lobes.stock.exit_encoder",
    "heads": "make them with speechbrain_ee.lobes.stock.exit_heads, or give CTCHeads",
}


def save_run(
    folder: str | Path,
    *,
    features: Fbank | Features,
    encoder: nn.Module,
    heads: CTCHeads,
    labels: object,
    normalizer: InputNormalization | None = None,
) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``tokenizer.model`` into a recipe's output folder.

    Afterwards ``transcribe``, ``evaluate``, ``calibrate``, ``report`` and ``export`` work on this folder. Call it at
    the end of the recipe, when the best weights are loaded. Of several processes, only the main one writes.

    Arguments
    ---------
    folder : str | Path
        Output folder of the recipe; files of other names are left alone.
    features : Fbank | Features
        The recipe's ``compute_features``, or features of this package.
    encoder : nn.Module
        An encoder with exits, see :func:`~speechbrain_ee.lobes.stock.exit_encoder`.
    heads : CTCHeads
        Its heads, see :func:`~speechbrain_ee.lobes.stock.exit_heads`.
    labels : object
        The recipe's labels, see :func:`~speechbrain_ee.text.foreign_labels.read_labels`.
    normalizer : InputNormalization | None
        The recipe's ``normalize``, with global statistics; None if there is none.

    Raises
    ------
    ValueError
        If a part cannot be carried over; the message names it, and nothing is written.

    Example
    -------
    >>> from speechbrain.dataio.encoder import CTCTextEncoder
    >>> from speechbrain_ee.lobes import TransformerExitEncoder
    >>> labels = CTCTextEncoder()
    >>> labels.update_from_iterable(["the cat"])
    >>> labels.insert_blank()
    >>> sizes = {"d_model": 8, "nhead": 2, "d_ffn": 8}
    >>> encoder = TransformerExitEncoder(n_mels=40, num_layers=2, exit_layers=[1, 2], **sizes)
    >>> heads = CTCHeads(num_exits=2, d_model=8, vocab_size=len(labels))
    >>> folder = getfixture("tmp_path")
    >>> save_run(folder, features=Fbank(), encoder=encoder, heads=heads, labels=labels)
    >>> sorted(path.name for path in folder.iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.model']
    """
    found = read_labels(labels)
    modules = {
        "features": _features(features, normalizer),
        "encoder": encoder,
        "heads": heads,
    }
    for name, module in modules.items():
        if type(module).__name__ not in LOBES[name]:
            known = ", ".join(LOBES[name])
            raise ValueError(f"{name} is a {type(module).__name__}, not one of {known}: {HINTS[name]}")
    modules["heads"] = with_labels(heads, found)
    check_model(modules)
    if not if_main_process():
        return
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / TOKENIZER_FILE, found.model)
    save_model(folder, modules, tokenizer=folder / TOKENIZER_FILE)


def _features(features: Fbank | Features, normalizer: InputNormalization | None) -> nn.Module:
    if not isinstance(features, Features):
        if not isinstance(features, Fbank):
            raise ValueError(f"features is a {type(features).__name__}: {HINTS['features']}")
        return log_mel(features, normalizer)
    if normalizer is not None:
        raise ValueError(
            f"normalizer is given, but {type(features).__name__} has its own statistics: leave it out, or give the "
            "recipe's Fbank as features"
        )
    return features


def with_labels(heads: CTCHeads, labels: Labels) -> CTCHeads:
    """Return heads whose outputs are in the order of a tokenizer; the same heads if the order is the same.

    Tokens that the recipe does not have (BOS and EOS) are never emitted. Outputs after the last label, which
    SpeechBrain allows and no text has, are left out with a warning.

    Arguments
    ---------
    heads : CTCHeads
        Heads over the recipe's labels.
    labels : Labels
        The labels.

    Raises
    ------
    ValueError
        If there are more labels than outputs, or attention decoders need BOS and EOS that the labels lack.
    """
    outputs, num_labels = heads.config["vocab_size"], labels.num_labels
    if outputs < num_labels or (outputs > num_labels and heads.has_decoders):
        raise ValueError(
            f"the heads have {outputs} outputs, but there are {num_labels} labels: give the labels of this training, "
            "or set the recipe's output size (output_neurons) to their number and train again"
        )
    if outputs > num_labels:
        logger.warning("The heads have %d outputs for %d labels: the last ones are left out", outputs, num_labels)
    elif labels.is_same_order:
        return heads
    if heads.has_decoders:
        raise ValueError(
            "attention decoders need labels with <unk>, BOS and EOS at 0, 1 and 2: train the recipe's SentencePiece "
            "model with unk_id=0 bos_id=1 eos_id=2"
        )
    moved = type(heads)(**heads.config | {"vocab_size": len(labels.origin)})
    rows = torch.tensor([0 if index is None else index for index in labels.origin])
    is_new = torch.tensor([index is None for index in labels.origin])
    state = heads.state_dict()
    for name, ours in moved.state_dict().items():
        value = state[name].detach().cpu()
        if value.shape != ours.shape:  # the last layer of a head
            value = value[rows]
            value[is_new] = NEVER if value.ndim == 1 else 0.0
        state[name] = value
    moved.load_state_dict(state)
    return moved
