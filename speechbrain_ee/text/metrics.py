# SPDX-License-Identifier: Apache-2.0
"""Word and character error rates, pooled.

Errors are counted with kaldialign: its edit distance in C++ gives the same counts as SpeechBrain (a test compares them)
and is faster than SpeechBrain's pure Python. Confidence intervals: :mod:`speechbrain_ee.text.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from kaldialign import align, edit_distance

from ee_runtime.text.error_units import CHAR, counted_in


def word_errors(reference: str, hypothesis: str) -> dict[str, int]:
    """Count the word errors of one utterance; words are separated by whitespace.

    Arguments
    ---------
    reference : str
        Reference text.
    hypothesis : str
        Recognised text.

    Returns
    -------
    dict
        ``{"S": substitutions, "D": deletions, "I": insertions}`` of a shortest alignment.

    Example
    -------
    >>> word_errors("the cat sat", "the cap sat down")
    {'S': 1, 'D': 0, 'I': 1}
    """
    return _errors(reference.split(), hypothesis.split())


def words_right(reference: str, hypothesis: str) -> list[bool]:
    """Return whether each recognised word is right in a shortest alignment.

    Arguments
    ---------
    reference : str
        Reference text.
    hypothesis : str
        Recognised text.

    Returns
    -------
    list of bool
        One per word of the hypothesis.

    Example
    -------
    >>> words_right("the cat sat", "the cap sat down")
    [True, False, True, False]
    """
    gap = "\0"  # occurs in no text
    pairs = align(reference.split(), hypothesis.split(), gap)
    return [expected == found for expected, found in pairs if found != gap]


def char_errors(reference: str, hypothesis: str) -> dict[str, int]:
    """Count the character errors of one utterance.

    A character is a Unicode code point, also a combining mark that has no composed form; texts are in NFC, see
    :mod:`ee_runtime.text.normal_form`. A single space between two words is a character, too.

    Arguments
    ---------
    reference : str
        Reference text.
    hypothesis : str
        Recognised text.

    Returns
    -------
    dict
        ``{"S": substitutions, "D": deletions, "I": insertions}`` of a shortest alignment.

    Example
    -------
    >>> char_errors("a cat", "a  cap")
    {'S': 1, 'D': 0, 'I': 0}
    """
    return _errors(list(_one_space(reference)), list(_one_space(hypothesis)))


def num_chars(reference: str) -> int:
    """Count the characters of a reference as :func:`char_errors` does.

    Arguments
    ---------
    reference : str
        Reference text.

    Returns
    -------
    int
        The number of characters, single spaces between words included.

    Example
    -------
    >>> num_chars(" a  cat ")
    5
    """
    return len(_one_space(reference))


def counted_in_characters(utterances: Sequence[Mapping]) -> list[dict] | None:
    """Mark lines of ``utterances.jsonl`` as counted in characters, which are counted if the lines are of an old file.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    list of dict or None
        The lines, see :func:`~ee_runtime.text.error_units.counted_in`; None if a text is missing.

    Example
    -------
    >>> lines = counted_in_characters([{"reference": "a cat", "exits": [{"hypothesis": "a cap"}]}])
    >>> lines[0]["num_chars"], lines[0]["exits"][0]["char_errors"]
    (5, {'S': 1, 'D': 0, 'I': 0})
    """
    lines = []
    for line in utterances:
        reference = line.get("reference")
        known = CHAR.length in line and all(CHAR.errors in exit for exit in line["exits"])
        if not known and (reference is None or any(exit.get("hypothesis") is None for exit in line["exits"])):
            return None
        if not known:
            exits = [{**one, CHAR.errors: char_errors(reference, one["hypothesis"])} for one in line["exits"]]
            line = {**line, CHAR.length: num_chars(reference), "exits": exits}
        lines.append(line)
    return counted_in(lines, CHAR)


def wer(errors: Sequence[int], words: Sequence[int]) -> float:
    """Compute the pooled error rate in percent: all errors over all reference words (or characters).

    Arguments
    ---------
    errors : sequence of int
        Errors (S + D + I) of each utterance.
    words : sequence of int
        Reference words (or characters) of each utterance.

    Returns
    -------
    float
        Error rate in percent; above 100 if there are more insertions than correct words.

    Raises
    ------
    ValueError
        If there is no reference word, or the lengths differ.

    Example
    -------
    >>> wer([1, 0], [4, 6])
    10.0
    """
    errors, words = check_counts(errors, words)
    return float(100.0 * errors.sum() / words.sum())


def check_counts(errors: Sequence[int], words: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return errors and words as arrays; raise ValueError if their lengths differ or there is no reference word."""
    errors, words = np.asarray(errors), np.asarray(words)
    if len(errors) != len(words):
        raise ValueError(f"got errors of {len(errors)} and words of {len(words)} utterances; give one each")
    if words.sum() == 0:
        raise ValueError("an error rate needs reference words, but the references are empty")
    return errors, words


def _errors(reference: list[str], hypothesis: list[str]) -> dict[str, int]:
    counts = edit_distance(reference, hypothesis)
    return {"S": counts["sub"], "D": counts["del"], "I": counts["ins"]}


def _one_space(text: str) -> str:
    return " ".join(text.split())
