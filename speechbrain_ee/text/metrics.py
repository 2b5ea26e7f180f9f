# SPDX-License-Identifier: Apache-2.0
"""Word and character error rates, pooled, with bootstrap intervals.

Errors are counted with kaldialign, whose C++ edit distance gives SpeechBrain's counts (a test
compares them) some twenty times faster than its pure Python: characters at every exit of a test
set like LibriSpeech's are 150 million cells.
Intervals are ours: kaldialign's bootstrap draws utterances only, and utterances of one speaker are
not independent.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from kaldialign import align, edit_distance


def word_errors(reference: str, hypothesis: str) -> dict[str, int]:
    """Count word errors of one utterance; words are what whitespace separates.

    Arguments
    ---------
    reference : str
        What was said.
    hypothesis : str
        What was recognised.

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
    """Whether each recognised word is right, by a shortest alignment.

    Arguments
    ---------
    reference : str
        What was said.
    hypothesis : str
        What was recognised.

    Returns
    -------
    list of bool
        One per word of the hypothesis.

    Example
    -------
    >>> words_right("the cat sat", "the cap sat down")
    [True, False, True, False]
    """
    gap = "\0"  # no word
    pairs = align(reference.split(), hypothesis.split(), gap)
    return [said == heard for said, heard in pairs if heard != gap]


def char_errors(reference: str, hypothesis: str) -> dict[str, int]:
    """Count character errors of one utterance; the one space between two words is a character.

    Arguments
    ---------
    reference : str
        What was said.
    hypothesis : str
        What was recognised.

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
    """Characters of a reference as ``char_errors`` counts them.

    Arguments
    ---------
    reference : str
        What was said.

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


def wer(errors: Sequence[int], words: Sequence[int]) -> float:
    """Pooled error rate in percent: all errors over all reference words (or characters).

    Arguments
    ---------
    errors : sequence of int
        Errors (S + D + I) of each utterance.
    words : sequence of int
        Reference words (or characters) of each utterance.

    Returns
    -------
    float
        Percent; above 100 if there are more insertions than correct words.

    Raises
    ------
    ValueError
        If there is no reference word, or the two do not belong together.

    Example
    -------
    >>> wer([1, 0], [4, 6])
    10.0
    """
    errors, words = _check_counts(errors, words)
    return float(100.0 * errors.sum() / words.sum())


def bootstrap_ci95(
    errors: Sequence[int],
    words: Sequence[int],
    groups: Sequence[Hashable | None] | None = None,
    num_samples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of the pooled WER, resampling whole speakers where they are known.

    Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance
    evaluation", ICASSP 2004; speakers are drawn as clusters because utterances of one speaker
    share their difficulty. With fewer than about ten speakers such an interval is too narrow.

    Arguments
    ---------
    errors : sequence of int
        Errors (S + D + I) of each utterance.
    words : sequence of int
        Reference words of each utterance.
    groups : sequence, optional
        Speaker of each utterance; an utterance whose speaker is None is a group of its own.
        None, or only one speaker: utterances are drawn.
    num_samples : int
        Number of bootstrap samples.
    seed : int
        Seed of the draws; the same seed draws the same speakers, so that intervals of several
        exits belong together.

    Returns
    -------
    tuple of float
        Lower and upper end in percent.

    Raises
    ------
    ValueError
        If there is no reference word, or lengths differ.

    Example
    -------
    >>> bootstrap_ci95([1, 1, 1], [10, 10, 10])
    (10.0, 10.0)
    """
    errors, words = _check_counts(errors, words)
    if groups is not None:
        errors, words = _sum_by_group(errors, words, groups)
    rng = np.random.default_rng(seed)
    rates = np.full(num_samples, np.nan)  # stays NaN for a draw of utterances without words
    for sample in range(num_samples):  # one draw at a time: a matrix of all is GBs for 100k
        drawn = rng.integers(len(words), size=len(words))
        if drawn_words := words[drawn].sum():
            rates[sample] = 100.0 * errors[drawn].sum() / drawn_words
    low, high = np.nanpercentile(rates, [2.5, 97.5])
    return float(low), float(high)


def _sum_by_group(
    errors: np.ndarray, words: np.ndarray, groups: Sequence[Hashable | None]
) -> tuple[np.ndarray, np.ndarray]:
    if len(groups) != len(words):
        raise ValueError(f"got {len(groups)} speakers for {len(words)} utterances; give one each")
    index: dict[Hashable, int] = {}
    keys = [("unknown", i) if group is None else group for i, group in enumerate(groups)]
    of_utterance = [index.setdefault(key, len(index)) for key in keys]
    if len(index) < 2:
        return errors, words
    return np.bincount(of_utterance, errors), np.bincount(of_utterance, words)


def _errors(reference: list[str], hypothesis: list[str]) -> dict[str, int]:
    counts = edit_distance(reference, hypothesis)
    return {"S": counts["sub"], "D": counts["del"], "I": counts["ins"]}


def _one_space(text: str) -> str:
    return " ".join(text.split())


def _check_counts(errors: Sequence[int], words: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    errors, words = np.asarray(errors), np.asarray(words)
    if errors.shape != words.shape:
        raise ValueError(f"got errors of {errors.size} and words of {words.size} utterances; give one each")
    if words.sum() == 0:
        raise ValueError("an error rate needs reference words, and there are none")
    return errors, words
