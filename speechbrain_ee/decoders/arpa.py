# SPDX-License-Identifier: Apache-2.0
"""Vocabulary of an ARPA language model, and the part of it that a recogniser can write."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechbrain.utils.logger import get_logger

from ee_runtime.files import check_not_pointer
from ee_runtime.text.spans import WORD_START

if TYPE_CHECKING:
    from speechbrain_ee.text.tokenizer import Tokenizer

logger = get_logger(__name__)

GZIP = b"\x1f\x8b"


def check_file(path: Path, wanted: str) -> None:
    """Check that a language model file exists and is not a pointer of Git LFS.

    Raises
    ------
    ValueError
        If the file is missing, a folder, or a pointer of Git LFS.

    Example
    -------
    >>> check_file(Path("none.arpa"), "an ARPA file")
    Traceback (most recent call last):
    ValueError: language model none.arpa does not exist; give an ARPA file
    """
    if not path.is_file():
        raise ValueError(f"language model {path} {'is a folder' if path.is_dir() else 'does not exist'}; give {wanted}")
    check_not_pointer(path)


def words_of_arpa(path: Path) -> list[str]:
    r"""Read the words of an ARPA file, which may be compressed with gzip; a KenLM binary gives an empty list.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.arpa"
    >>> _ = path.write_text("\\data\\\nngram 1=2\n\\1-grams:\n-1 <s> 0\n-1 cat 0\n\\end\\\n")
    >>> words_of_arpa(path)
    ['cat']
    """
    with open(path, "rb") as file:
        is_gzip = file.read(2) == GZIP
    words, is_unigram = [], False
    with (gzip.open if is_gzip else open)(path, "rt", encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file):
            if line.startswith("\\"):
                if is_unigram:
                    break
                is_unigram = line.strip() == "\\1-grams:"
            elif is_unigram and len(fields := line.split()) >= 2:
                words.append(fields[1])
            elif number > 1000 and not words:
                break
    return sorted({word for word in words if not word.startswith("<")})


def writable_words(path: Path, words: Sequence[str], tokenizer: Tokenizer) -> list[str]:
    """Return the words that a recogniser can write; log a warning if they are fewer than half of the words.

    Arguments
    ---------
    path : Path
        File of the language model, for messages.
    words : Sequence[str]
        Words of the language model.
    tokenizer : Tokenizer
        Tokenizer of the recogniser.

    Raises
    ------
    ValueError
        If the recogniser can write none of the words.
    """
    known = set(itertools.chain.from_iterable(tokenizer.vocab_list[3:])) - {WORD_START}
    writable = [word for word in words if set(word) <= known]
    if not writable:
        advice = _advice(words, known)
        raise ValueError(
            f"the recogniser can write no word of the language model {path} (first: {words[0]!r}), so every word would "
            f"be unknown: {advice}"
        )
    if 2 * len(writable) < len(words):
        unknown = next(word for word in words if not set(word) <= known)
        logger.warning(
            "%s: the recogniser can write %d of %d words of the language model (not %r, for example): %s",
            *(path, len(writable), len(words), unknown, _advice(words, known)),
        )
    return writable


def _advice(words: Sequence[str], known: set[str]) -> str:
    """Return advice on the training texts: another letter case, if it helps at least half of the words."""
    for advice, change in (("lower case", str.lower), ("capitals", str.upper)):
        if 2 * sum(set(change(word)) <= known for word in words) >= len(words):
            return f"train it on texts in {advice}"
    return "train it on texts with the characters of the recogniser's training texts"
