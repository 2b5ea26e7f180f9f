# SPDX-License-Identifier: Apache-2.0
"""Text rules: hand-worked transcripts, and what holds for all of them."""

import pytest

from speechbrain_ee.text.normalize import DIGITS, ENGLISH_ALPHABET, english, mandarin, ted_lium


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("THE CITIES' \u2018GREEN\u2019 DEAL", "the cities' 'green' deal"),
        ("rock ' n ' roll", "rock n roll"),
        ("\u0160ef\u010dovi\u010d, Stra\u00dfe, \u0141\u00f3d\u017a, S\u00f8ren", "sefcovic strasse lodz soren"),
        ("cafe\u0301 = caf\u00e9", "cafe cafe"),
        ("27 member states; 50% of them\u2014e-mail", "27 member states 50 of them e mail"),
        ("\uff12\uff10\uff10\uff19", "2009"),
        ("\u01feresund, \u01fcsir", "oresund aesir"),
        ("don''t ''quote''", "don't 'quote'"),
        ("\u2026 -- !", ""),
        ("", ""),
    ],
)
def test_english(text, expected):
    assert english(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("they 're sure that we 'll say you 'd come", "they're sure that we'll say you'd come"),
        ("i 'm the boss 's aunt and don 't care", "i'm the boss's aunt and don't care"),
        ("'s a start, and 'tis 'til 'em", "'s a start and 'tis 'til 'em"),
        ("READ(2) IT{SMACK} [ unclear ] {UH} <sil> again ( 3 )", "read it again"),
        ("it <unk> 's", "it"),
        ("the <unk> 's house, mrs <unk>(2) 's", "the house mrs"),
        ("<unk> 'd gone and <unk> 'd 've, <unk> 'cause", "gone and 'cause"),
        ("<unk>", ""),
        ("ten o 'clock, y 'all, coup d 'etat, l 'or\u00e9al", "ten o'clock y'all coup d'etat l'oreal"),
        ("and ' cause in the ' 60s and '70s", "and 'cause in the '60s and '70s"),
        ("we(2) 're {NOISE} 's (2) 've", "we're's've"),
    ],
)
def test_ted_lium(text, expected):
    assert ted_lium(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u56fd\u9645 \uff22\uff21\uff2e\u3001 \u4e8c\u96f6", "\u56fd\u9645ban\u4e8c\u96f6"),
        ("\uff08\u7b11\uff09\u3002", "\u7b11"),
        ("\u3000 \t", ""),
    ],
)
def test_mandarin(text, expected):
    assert mandarin(text) == expected


@pytest.mark.parametrize("rule", [english, ted_lium, mandarin])
def test_a_normalised_text_stays_as_it_is(rule):
    text = rule("It 's (2) 5 o\u2019clock \u2013 \u00c9t\u00e9, \u4f60\u597d <unk> 'cause of `quotes`")
    assert rule(text) == text


@pytest.mark.parametrize("rule", [english, ted_lium])
def test_english_characters_are_those_of_the_alphabets_in_yamls(rule):
    everything = "".join(map(chr, range(0x20, 0x2FA20))).encode("utf-8", "ignore").decode()
    assert set(rule(everything)) <= set(ENGLISH_ALPHABET + DIGITS + " ")
