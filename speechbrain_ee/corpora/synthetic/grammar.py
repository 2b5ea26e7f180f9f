# SPDX-License-Identifier: Apache-2.0
"""The small grammar of the synthetic default corpus."""

import itertools
from collections.abc import Iterator

import numpy as np

# One template per line; {class} stands for every word of the class.
WORDS = {
    "name": "alice robert maria oliver",
    "colour": "red green blue yellow",
    "device": "lamp heater radio camera",
    "opening": "door window curtain gate",
    "room": "kitchen bedroom garden office",
    "digit": "zero one two three four five six seven eight nine",
    "switch": "on off",
    "move": "open close",
}
TEMPLATES = (
    "turn {switch} the {colour} {room} {device}",
    "{name} please {move} the {colour} {opening}",
    "set the {room} {device} to {digit} {digit}",
    "call {name} at {digit} {digit} {digit} {digit}",
    "dial {digit} {digit} {digit} {digit} {digit}",
    "{move} the {room} {opening} at {digit} {digit}",
)

# The grammar has no j, q and apostrophe, but models of the corpus have always had an output for each of them.
ALPHABET = "abcdefghijklmnopqrstuvwxyz'"


def all_sentences() -> Iterator[list[str]]:
    """Yield the sentences of each template.

    Example
    -------
    >>> sum(len(sentences) for sentences in all_sentences())
    145056
    """
    for template in TEMPLATES:
        slots = [WORDS[w[1:-1]].split() if w[0] == "{" else [w] for w in template.split()]
        yield [" ".join(words) for words in itertools.product(*slots)]


def draw_sentences(number: int, rng: np.random.Generator) -> list[str]:
    """Draw distinct sentences, as evenly over the templates as their sizes allow.

    Raises
    ------
    ValueError
        If the grammar has fewer sentences.
    """
    shuffled = [[block[i] for i in rng.permutation(len(block))] for block in all_sentences()]
    total = sum(map(len, shuffled))
    if number > total:
        raise ValueError(
            f"{number} utterances need more sentences than the {total} of the grammar: lower train_hours, num_dev or "
            "num_test"
        )
    rounds = itertools.zip_longest(*shuffled)
    flat = [sentence for each in rounds for sentence in each if sentence is not None]
    return [flat[i] for i in rng.permutation(number)]


def draw_fragments(number: int, rng: np.random.Generator) -> list[str]:
    """Draw utterances of one to three random words, with repetitions.

    Trained on whole sentences alone, a model learns the grammar before the acoustics and outputs wrong sentences of the
    right template. Random words force it to learn the acoustics.

    Example
    -------
    >>> [len(fragment.split()) for fragment in draw_fragments(5, np.random.default_rng(0))]
    [3, 2, 2, 1, 1]
    """
    templates = " ".join(word for template in TEMPLATES for word in template.split() if word[0] != "{")
    vocabulary = sorted({word for words in [*WORDS.values(), templates] for word in words.split()})
    lengths = rng.integers(1, 4, size=number)
    return [" ".join(rng.choice(vocabulary, size=length)) for length in lengths]
