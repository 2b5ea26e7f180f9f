# SPDX-License-Identifier: Apache-2.0
"""The one form of every text: references, training texts, alphabets and hypotheses.

Unicode has two forms of many letters: ``ü`` is one code point in NFC and two (``u`` and a combining diaeresis) in NFD.
Both look the same, but they have different tokens, and one counts as an error for the other.
"""

from unicodedata import normalize


def normal_form(text: str) -> str:
    r"""Convert a text to Unicode NFC; case, punctuation and white space are kept.

    Not NFKC, which changes characters that a reader can distinguish, such as full-width letters.

    Example
    -------
    >>> len("u\u0308ber"), len(normal_form("u\u0308ber"))
    (5, 4)
    """
    return normalize("NFC", text)
