# SPDX-License-Identifier: Apache-2.0
"""SpeechBrain's TransformerLM over the tokens of a recogniser, for the beam search with attention."""

from __future__ import annotations

from pathlib import Path

import torch
from speechbrain.lobes.models.transformer.TransformerLM import TransformerLM

from ee_runtime.files import check_not_pointer
from speechbrain_ee.lobes.state_dicts import load_strict

HEAD_SIZE = 64  # of SpeechBrain's published models; it cannot be read from a checkpoint


def make_language_model(*, vocab_size: int, d_model: int, num_layers: int, d_ffn: int) -> TransformerLM:
    """Make a TransformerLM in the form of SpeechBrain's LibriSpeech models.

    Arguments
    ---------
    vocab_size : int
        Number of tokens of the recogniser.
    d_model : int
        Width; each attention head has 64 of it.
    num_layers : int
        Number of layers.
    d_ffn : int
        Width of the feed-forward networks.

    Returns
    -------
    TransformerLM
        Randomly initialised.

    Example
    -------
    >>> model = make_language_model(vocab_size=9, d_model=8, num_layers=1, d_ffn=8)
    >>> model(torch.tensor([[1, 5, 3]])).shape
    torch.Size([1, 3, 9])
    """
    return TransformerLM(
        vocab=vocab_size,
        d_model=d_model,
        nhead=max(1, d_model // HEAD_SIZE),
        num_encoder_layers=num_layers,
        num_decoder_layers=0,
        d_ffn=d_ffn,
        dropout=0.0,
        activation=torch.nn.GELU,
        normalize_before=False,
    )


def load_language_model(file: str | Path) -> TransformerLM:
    """Load a TransformerLM; its sizes are read from the weights.

    Arguments
    ---------
    file : str | Path
        ``lm.ckpt`` of SpeechBrain's LibriSpeech models, or ``model.ckpt`` of ``recipes/LibriSpeech/train_lm.py``.

    Returns
    -------
    TransformerLM
        The model on the CPU in evaluation mode.

    Raises
    ------
    ValueError
        If the file is missing or not a checkpoint of a TransformerLM.
    """
    if Path(file).is_file():
        check_not_pointer(file)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        vocab_size, d_model = state["custom_src_module.emb.Embedding.weight"].shape
        d_ffn = len(state["encoder.layers.0.pos_ffn.ffn.0.weight"])
    except FileNotFoundError:
        raise ValueError(f"language model {file} does not exist; give a checkpoint of a TransformerLM") from None
    except Exception as error:  # pickle and zip raise errors of many classes
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"language model {file} is not a checkpoint of a TransformerLM: {reason}") from None
    num_layers = len({name.split(".")[2] for name in state if name.startswith("encoder.layers.")})
    model = make_language_model(vocab_size=vocab_size, d_model=d_model, num_layers=num_layers, d_ffn=d_ffn)
    load_strict(model, state, what=f"the language model {file}")
    return model.eval()
