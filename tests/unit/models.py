# SPDX-License-Identifier: Apache-2.0
"""Tiny models with real, non-identity layers, one per family; what the laws are tested on."""

import torch

from speechbrain_ee.inference import EarlyExitASR
from speechbrain_ee.lobes import ConformerExitEncoder, CTCHeads, JointHeads, LogMel, TransformerExitEncoder
from speechbrain_ee.losses import ExitCTCLoss, ExitJointLoss
from speechbrain_ee.tokenizer import Tokenizer

N_MELS, D_MODEL, VOCAB = 20, 16, 12
SIZES = {"n_mels": N_MELS, "d_model": D_MODEL, "nhead": 2, "d_ffn": 24, "channels": [4, 4]}
FAMILIES = {
    "conformer": (ConformerExitEncoder, {"kernel_size": 7}),
    "conformer_relpos": (ConformerExitEncoder, {"kernel_size": 7, "attention_type": "RelPosMHAXL"}),
    "conformer_rope": (ConformerExitEncoder, {"kernel_size": 7, "attention_type": "RoPEMHA"}),
    "transformer": (TransformerExitEncoder, {}),
    "conformer_aed": (ConformerExitEncoder, {"kernel_size": 7}),
}
DECODER_SIZES = {"nhead": 2, "d_ffn": 24, "num_decoder_layers": 2, "decoder_dropout": 0.0}


def make_encoder(family: str, *, num_layers=4, exit_layers=(1, 2, 4), dropout=0.0, seed=0):
    """Build an encoder whose biases, gains and norms are random too: nothing in it is an identity."""
    torch.manual_seed(seed)
    cls, arguments = FAMILIES[family]
    encoder = cls(num_layers=num_layers, exit_layers=exit_layers, dropout=dropout, **SIZES, **arguments)
    return _without_identities(encoder)


def _without_identities(module):
    for parameter in module.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.5)
    return module.eval()


def make_heads(num_exits=3, vocab_size=VOCAB, **arguments):
    """Build CTC heads, one per exit."""
    torch.manual_seed(1)
    return CTCHeads(num_exits=num_exits, d_model=D_MODEL, vocab_size=vocab_size, **arguments).eval()


def make_joint_heads(exit_layers=(1, 2, 4), vocab_size=VOCAB, **arguments):
    """Build CTC heads and decoders, one per exit, whose biases, gains and norms are random too."""
    torch.manual_seed(1)
    options = {"decoders": "per_exit", **DECODER_SIZES, **arguments}
    return _without_identities(JointHeads(exit_layers=exit_layers, d_model=D_MODEL, vocab_size=vocab_size, **options))


def make_heads_of(family, exit_layers=(1, 2, 4), vocab_size=VOCAB):
    """Build the heads that a family has."""
    if family.endswith("_aed"):
        return make_joint_heads(exit_layers, vocab_size)
    return make_heads(len(exit_layers), vocab_size)


def make_loss(family, exit_layers, weights="uniform"):
    """Build the loss that a family has."""
    loss = ExitJointLoss if family.endswith("_aed") else ExitCTCLoss
    return loss(exit_layers=exit_layers, weights=weights)


def make_tokenizer(folder):
    """Train a character tokenizer of a handful of letters."""
    texts = ["the cat sat", "a fat rat", "the hat"]
    return Tokenizer.train(texts, path=folder / "tokenizer.model", model_type="char", vocab_size=VOCAB)


def make_asr(folder, family="conformer", policy=None, **arguments):
    """Build the whole recogniser; its heads are sharpened so that exits differ."""
    tokenizer = make_tokenizer(folder)
    encoder = make_encoder(family, **arguments)
    heads = make_heads_of(family, encoder.exit_layers, tokenizer.vocab_size)
    for parameter in heads.heads.parameters():
        parameter.data *= 4
    modules = {"features": LogMel(n_mels=N_MELS), "encoder": encoder, "heads": heads}
    return EarlyExitASR(modules=modules, hparams={"tokenizer": tokenizer, "blank_index": 0}, policy=policy)


def model_with_heads(num_heads, vocab_size=3):
    """Build what has the names of a model with heads, and no more."""
    heads = torch.nn.ModuleList(torch.nn.Linear(2, vocab_size) for _ in range(num_heads))
    return torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "heads": heads})
