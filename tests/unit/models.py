# SPDX-License-Identifier: Apache-2.0
"""Tiny models with real, non-identity layers, one per family; what the laws are tested on."""

import torch
from torch.nn.utils.rnn import pad_sequence

from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.lobes import (
    ConformerExitEncoder,
    CTCHeads,
    HubertExitEncoder,
    JointHeads,
    LogMel,
    TransformerExitEncoder,
    Wav2Vec2ExitEncoder,
    Waveform,
    WavLMExitEncoder,
    WhisperExitEncoder,
    WhisperLogMel,
)
from speechbrain_ee.text.tokenizer import Tokenizer
from speechbrain_ee.training.losses import ExitCTCLoss, ExitJointLoss

N_MELS, D_MODEL, VOCAB = 20, 16, 12
SAMPLES = 320  # a step of the waveform families
SIZES = {"n_mels": N_MELS, "d_model": D_MODEL, "nhead": 2, "d_ffn": 24, "channels": [4, 4]}
CONFORMER = {**SIZES, "dropout": 0.0, "kernel_size": 7}
NO_DROPOUT = dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"), 0.0)
BASE = {  # of wav2vec 2.0 and its kin: group norm in front, norms after the layers
    **{"hidden_size": D_MODEL, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [6] * 7},
    **{"num_conv_pos_embeddings": 6, "num_conv_pos_embedding_groups": 2, **NO_DROPOUT},
}
LARGE = BASE | {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
SHALLOW = {"conv_dim": [6] * 2, "conv_kernel": [40, 10], "conv_stride": [20, 8]}  # a front-end that traces faster
WHISPER = {"d_model": D_MODEL, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "num_mel_bins": N_MELS}
FAMILIES = {
    "conformer": (ConformerExitEncoder, CONFORMER),
    "conformer_relpos": (ConformerExitEncoder, CONFORMER | {"attention_type": "RelPosMHAXL"}),
    "conformer_rope": (ConformerExitEncoder, CONFORMER | {"attention_type": "RoPEMHA"}),
    "transformer": (TransformerExitEncoder, {**SIZES, "dropout": 0.0}),
    "conformer_aed": (ConformerExitEncoder, CONFORMER),
    "wav2vec2": (Wav2Vec2ExitEncoder, {"backbone": BASE}),
    "wav2vec2_large": (Wav2Vec2ExitEncoder, {"backbone": LARGE}),
    "hubert": (HubertExitEncoder, {"backbone": BASE}),
    "hubert_large": (HubertExitEncoder, {"backbone": LARGE}),
    "wavlm": (WavLMExitEncoder, {"backbone": BASE}),
    "wavlm_large": (WavLMExitEncoder, {"backbone": LARGE}),
    "whisper": (WhisperExitEncoder, {"backbone": WHISPER}),
}
WAVEFORM_FAMILIES = tuple(
    family for family, (_, arguments) in FAMILIES.items() if "conv_dim" in arguments.get("backbone", {})
)
DECODER_SIZES = {"nhead": 2, "d_ffn": 24, "num_decoder_layers": 2, "decoder_dropout": 0.0}


def make_encoder(family: str, *, num_layers=4, exit_layers=(1, 2, 4), seed=0, **more):
    """Build an encoder whose biases, gains and norms are random too: nothing in it is an identity."""
    torch.manual_seed(seed)
    cls, arguments = FAMILIES[family]
    encoder = cls(num_layers=num_layers, exit_layers=exit_layers, **arguments | more)
    if "backbone" in arguments:  # the library's weights are so small that its layers change next to nothing
        for parameter in encoder.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return _without_identities(encoder)


def make_batch(family: str, lengths):
    """Build noise as features, in steps of 10 ms or, as waveforms, of 20 ms; padding is garbage on purpose."""
    generator = torch.Generator().manual_seed(3)
    step, size = (SAMPLES, 1) if family in WAVEFORM_FAMILIES else (1, N_MELS)
    feats = [torch.randn(length * step, size, generator=generator) for length in lengths]
    return pad_sequence(feats, batch_first=True, padding_value=7.0), torch.tensor([len(one) for one in feats])


def make_features(family: str):
    """Build the features that a family takes."""
    if family in WAVEFORM_FAMILIES:
        return Waveform(normalize=True)
    return WhisperLogMel(n_mels=N_MELS) if family == "whisper" else LogMel(n_mels=N_MELS)


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


def make_asr(folder, family="conformer", policy=None, features=None, **arguments):
    """Build the whole recogniser; its heads are sharpened so that exits differ."""
    tokenizer = make_tokenizer(folder)
    encoder = make_encoder(family, **arguments)
    heads = make_heads_of(family, encoder.exit_layers, tokenizer.vocab_size)
    for parameter in heads.heads.parameters():
        parameter.data *= 4
    modules = {"features": features or make_features(family), "encoder": encoder, "heads": heads}
    return EarlyExitASR(modules=modules, hparams={"tokenizer": tokenizer}, policy=policy)


def model_with_heads(num_heads, vocab_size=3):
    """Build what has the names of a model with heads, and no more."""
    heads = torch.nn.ModuleList(torch.nn.Linear(2, vocab_size) for _ in range(num_heads))
    return torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "heads": heads})
