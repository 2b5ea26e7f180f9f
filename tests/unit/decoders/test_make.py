# SPDX-License-Identifier: Apache-2.0
"""Decoders by name, and what importing one loads."""

import subprocess
import sys

import pytest
from unit.models import make_heads, make_joint_heads, make_tokenizer

from speechbrain_ee.decoders.make import _CLASSES, make_decoder
from speechbrain_ee.decoders.names import DECODINGS


def test_every_name_has_its_classes():
    assert tuple(_CLASSES) == DECODINGS


@pytest.mark.parametrize(
    ("decoding", "options", "expected"),
    [
        ("greedy", {}, "<GreedyAttention: greedy attention>"),
        ("beam", {"beam_size": 3}, "<BeamAttention: attention beam 3, CTC weight 0.4>"),
        ("rescore", {}, "<RescoreAttention: attention rescoring of CTC beam 10, CTC weight 0.5>"),
        ("ctc", {}, "<GreedyCTC: greedy CTC>"),
    ],
)
def test_a_decoder_says_what_it_is(tmp_path, decoding, options, expected):
    tokenizer = make_tokenizer(tmp_path)
    heads = make_joint_heads(vocab_size=tokenizer.vocab_size)
    assert repr(make_decoder(decoding, heads, tokenizer, **options)) == expected


def test_a_model_without_attention_decoders_uses_ctc(tmp_path):
    tokenizer = make_tokenizer(tmp_path)
    heads = make_heads(vocab_size=tokenizer.vocab_size)
    assert repr(make_decoder("beam", heads, tokenizer, beam_size=7)) == "<BeamCTC: CTC beam 7>"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("decoders.names", ["torch", "speechbrain"]),
        ("text.spans", ["torch", "kaldialign", "sentencepiece"]),
        ("decoders.alignment", ["speechbrain_ee.corpora", "speechbrain_ee.training", "kaldialign", "soundfile"]),
    ],
)
def test_imports_stay_small(module, absent):
    code = f"import sys, speechbrain_ee.{module}; print([name for name in {absent} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
