# SPDX-License-Identifier: Apache-2.0
"""Text rules of the recipes: from the transcripts of a corpus to the characters that a model writes.

Every recipe uses one of these functions for all its sets, so that training texts and references follow the same rules.

=====================  ===============================================================================================
function               corpora
=====================  ===============================================================================================
:func:`english`        LibriSpeech, mini LibriSpeech, SpeechOcean762, VoxPopuli, and texts of word language models
:func:`ted_lium`       TED-LIUM 3
:func:`mandarin`       AISHELL-1
=====================  ===============================================================================================

Numbers stay as they are written: how a number was spoken cannot be derived from its digits.
"""

import re
import unicodedata

ENGLISH_ALPHABET = "abcdefghijklmnopqrstuvwxyz'"
DIGITS = "0123456789"
APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032\uff07`\u00b4", "'"))
# Letters of European names that Unicode does not decompose into a Latin letter and an accent.
LATIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ı": "i"}
)
TED_MARKS = re.compile(r"\([^()]*\)|\{[^{}]*\}|\[[^\[\]]*\]|<(?!unk>)[^<>]*>")
# What follows the apostrophe in words that begin with one, such as 'cause and '60s; all others are suffixes.
TED_WORD = r"(?:\d|(?:bout|cause|cuz|em|fraid|kay|n|nother|nuff|round|scuse|til|till|tis|twas)\b)"
TED_LOOSE = re.compile(rf"(?<!\S)' (?={TED_WORD})")
TED_UNKNOWN = re.compile(rf"<unk>(?: '(?!{TED_WORD})\w+)*")
TED_SUFFIX = re.compile(rf"(?<=\w) '(?!{TED_WORD})(?=\w)")


def english(text: str, *, digits: bool = True) -> str:
    """Reduce a text to the letters a to z, digits, apostrophes and single spaces.

    1. Letters become lower case, and typographic apostrophes become ``'``.
    2. Accents are removed; ß, æ, œ, ø, ... become ASCII letters.
    3. Every other character becomes a space, hyphens included.
    4. Apostrophes that touch no letter or digit are removed.

    Arguments
    ---------
    text : str
        A transcript.
    digits : bool
        False removes digits as well, for texts of language models whose words have none.

    Returns
    -------
    str
        May be empty.

    Example
    -------
    >>> english("MISTER QUILTER\u2019S well-known caf\u00e9 \u2013 ' in 2009!")
    "mister quilter's well known cafe in 2009"
    >>> english("It's 3 o'clock -- Sir!", digits=False)
    "it's o'clock sir"
    """
    text = unicodedata.normalize("NFKD", text.lower().translate(APOSTROPHES))
    text = "".join(character for character in text if unicodedata.category(character) != "Mn").translate(LATIN)
    kept = "a-z0-9" if digits else "a-z"
    text = re.sub("'+", "'", re.sub(rf"[^{kept}']+", " ", text))
    return _single_spaces(re.sub(rf"(?<![{kept}])'+(?![{kept}])", " ", text))


def ted_lium(text: str) -> str:
    """Reduce a text of an STM file of TED-LIUM to words.

    1. Marks are removed: pronunciation variants such as ``(2)`` and ``( 2 )``, names of utterances in parentheses,
       noises and fillers such as ``{NOISE}`` and ``[ unclear ]``, and ``<sil>``.
    2. The apostrophe of words such as ``' cause``, ``'em`` and ``' 60s`` is joined to them.
    3. ``<unk>``, an unknown word, is removed together with a suffix such as ``'s``.
    4. The rules of :func:`english` follow.
    5. Everything else that begins with an apostrophe is joined to the word before it: ``it 's`` becomes ``it's``, and
       ``o 'clock`` becomes ``o'clock``.

    Segments with the text ``ignore_time_segment_in_scoring`` are not in any set; the recipe leaves them out.

    Example
    -------
    >>> ted_lium("i don 't <sil> know(2) <unk> 's ' cause it 's {NOISE} 2000 ( 2 ) years (AlGore_2009-17.82-28.81)")
    "i don't know 'cause it's 2000 years"
    """
    text = _single_spaces(TED_MARKS.sub(" ", text.lower().translate(APOSTROPHES)))
    text = TED_UNKNOWN.sub(" ", TED_LOOSE.sub("'", text))
    return TED_SUFFIX.sub("'", english(text))


def mandarin(text: str) -> str:
    """Reduce a text to Chinese characters and lower-case Latin letters and digits, without spaces.

    1. Compatibility characters, such as full-width letters, become ordinary ones (NFKC); letters become lower case.
    2. Punctuation, symbols and spaces are removed: AISHELL puts spaces between words, which Mandarin does not write.

    Example
    -------
    >>> mandarin("\u800c \u5bf9 \uff34 \u6064\uff0c \u697c\u5e02")
    '而对t恤楼市'
    """
    text = unicodedata.normalize("NFKC", text).lower()
    return "".join(character for character in text if unicodedata.category(character)[0] in "LMN")


def _single_spaces(text: str) -> str:
    return " ".join(text.split())
