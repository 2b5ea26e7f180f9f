# SPDX-License-Identifier: Apache-2.0
"""SpeechBrain's TransformerLM over a model's tokens, for the joint beam of an attention decoder."""

from __future__ import annotations

from pathlib import Path

import torch
from speechbrain.lobes.models.transformer.TransformerLM import TransformerLM

from speechbrain_ee.state_dicts import load_strict


def load_language_model(
    file: str | Path | None, *, vocab_size: int, d_model: int, nhead: int, num_layers: int, d_ffn: int
) -> TransformerLM | None:
    """Load a language model that SpeechBrain has saved.

    Arguments
    ---------
    file : str | Path | None
        Its checkpoint, such as ``lm.ckpt`` of SpeechBrain's LibriSpeech models or ``model.ckpt`` of
        ``recipes/LibriSpeech/train_lm.py``; None is no language model.
    vocab_size : int
        Tokens, those of the recogniser.
    d_model : int
        Width.
    nhead : int
        Attention heads.
    num_layers : int
        Layers.
    d_ffn : int
        Width of the feed-forward part.

    Returns
    -------
    TransformerLM | None
        On the CPU, in evaluation mode.

    Raises
    ------
    ValueError
        If the file is missing or no checkpoint, or not of this shape.

    Example
    -------
    >>> load_language_model(None, vocab_size=9, d_model=8, nhead=2, num_layers=1, d_ffn=8) is None
    True
    """
    if file is None:
        return None
    model = make_language_model(vocab_size=vocab_size, d_model=d_model, nhead=nhead, num_layers=num_layers, d_ffn=d_ffn)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"language model {file} does not exist; give a checkpoint of a TransformerLM") from None
    except Exception as error:  # pickle and zip fail in many ways
        raise ValueError(f"language model {file} is no checkpoint: {' '.join(str(error).split())[:200]}") from None
    load_strict(model, state, what=f"the language model {file}")
    return model.eval()


def make_language_model(*, vocab_size: int, d_model: int, nhead: int, num_layers: int, d_ffn: int) -> TransformerLM:
    """A TransformerLM as in SpeechBrain's LibriSpeech recipe; see :func:`load_language_model` for the arguments.

    Example
    -------
    >>> model = make_language_model(vocab_size=9, d_model=8, nhead=2, num_layers=1, d_ffn=8)
    >>> model(torch.tensor([[1, 5, 3]])).shape
    torch.Size([1, 3, 9])
    """
    return TransformerLM(
        vocab=vocab_size,
        d_model=d_model,
        nhead=nhead,
        num_encoder_layers=num_layers,
        num_decoder_layers=0,
        d_ffn=d_ffn,
        dropout=0.0,
        activation=torch.nn.GELU,
        normalize_before=False,
    )
