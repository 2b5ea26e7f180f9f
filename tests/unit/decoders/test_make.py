# SPDX-License-Identifier: Apache-2.0
"""Decoders by name, and the modules that an import loads."""

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


@pytest.mark.parametrize(
    ("decoding", "options", "expected"),
    [
        ("greedy", {}, "<GreedyCTC: greedy CTC>"),
        ("beam", {"beam_size": 7}, "<BeamCTC: CTC beam 7>"),
        ("ctc", {}, "<GreedyCTC: greedy CTC>"),
    ],
)
def test_a_model_without_attention_decoders_uses_ctc(tmp_path, decoding, options, expected):
    tokenizer = make_tokenizer(tmp_path)
    heads = make_heads(vocab_size=tokenizer.vocab_size)
    assert repr(make_decoder(decoding, heads, tokenizer, **options)) == expected


@pytest.mark.parametrize(
    ("make", "decoding", "options", "message"),
    [
        (make_joint_heads, "best", {}, "'best' is not one of greedy, beam, lexicon, rescore, ctc"),
        (make_heads, "rescore", {}, "rescore needs attention decoders"),
        (make_joint_heads, "ctc", {"lm": "lm.arpa"}, "ctc uses no beam and no language model"),
        (make_joint_heads, "ctc", {"beam_size": 3}, "ctc uses no beam and no language model"),
        (make_joint_heads, "beam", {"lm": "lm.ckpt"}, "lm.ckpt does not exist"),
        (make_heads, "lexicon", {}, "lexicon takes its words from a language model"),
        (make_heads, "beam", {"lm_weight": 0.1}, "lm_weight and word_bonus need a language model: give lm"),
        (make_heads, "beam", {"word_bonus": 0.1}, "lm_weight and word_bonus need a language model: give lm"),
        (make_joint_heads, "beam", {"lm": "lm.ckpt", "word_bonus": 1.0}, "word_bonus is for a KenLM over words"),
    ],
)
def test_unsupported_decodings_and_options_are_refused(tmp_path, make, decoding, options, message):
    tokenizer = make_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=message):
        make_decoder(decoding, make(vocab_size=tokenizer.vocab_size), tokenizer, **options)


@pytest.mark.parametrize(
    ("module", "needed", "absent"),
    [
        ("decoders.names", "typing", ["torch", "speechbrain"]),
        # torchaudio 2.7 imports soundfile
        (
            "lobes.exit_output",
            "torchaudio",
            ["speechbrain_ee.corpora", "speechbrain_ee.training", "kaldialign", "soundfile"],
        ),
    ],
)
def test_imports_stay_small(module, needed, absent):
    code = (
        f"import sys, {needed}; before = set(sys.modules); import speechbrain_ee.{module}; "
        f"print([name for name in {absent} if name in set(sys.modules) - before])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
