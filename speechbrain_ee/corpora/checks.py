# SPDX-License-Identifier: Apache-2.0
"""Checks of utterances before training: characters, and lengths against the encoder and CTC."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from speechbrain.utils.logger import get_logger

from ee_runtime.text.ctc_paths import ctc_frames_needed
from ee_runtime.text.error_units import WORD, ErrorUnit
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.text.tokenizer import Tokenizer

logger = get_logger(__name__)

MAX_SHOWN = 40  # characters in a warning
MAX_UNWRITABLE = 0.1  # share of the characters of a development set; more is a mistake in the texts


def check_alphabet(utterances: Sequence[Utterance], tokenizer: Tokenizer) -> None:
    """Check that the tokenizer can encode every text.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        Utterances with the texts to encode.
    tokenizer : Tokenizer
        The tokenizer.

    Raises
    ------
    ValueError
        If a text has unknown characters; the message gives the number of texts, the characters and the first id.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["the cat"], path=path, model_type="char")
    >>> check_alphabet([Utterance("a", path, 1.0, "the cat")], tokenizer)
    """
    unknown = {utt.id: tokenizer.unknown_characters(utt.text) for utt in utterances}
    bad_ids = [name for name, characters in unknown.items() if characters]
    if bad_ids:
        found = sorted(set().union(*unknown.values()))
        more = f" and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
        characters = "".join(found[:MAX_SHOWN])
        raise ValueError(
            f"{len(bad_ids)} of {len(utterances)} texts have characters that the tokenizer does not know: "
            f"{characters!r}{more} (first: {bad_ids[0]}); clean the texts, or train the tokenizer on texts that have "
            "these characters"
        )


def check_dev_alphabet(utterances: Sequence[Utterance], tokenizer: Tokenizer) -> str | None:
    """Check that the tokenizer can encode nearly all characters of a development set.

    In a language with thousands of characters, a few of them are hardly avoidable: they count as errors. Many of them
    show that the texts were prepared in another way than the training texts.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        The development set.
    tokenizer : Tokenizer
        The tokenizer.

    Returns
    -------
    str | None
        A warning; None if the tokenizer knows all characters.

    Raises
    ------
    ValueError
        If more than a tenth of the characters is unknown.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["the cat"], path=path, model_type="char")
    >>> check_dev_alphabet([Utterance("a", path, 1.0, "the hat that chatted")], tokenizer)
    "1 of 17 characters of the texts are unknown to the tokenizer ('d'): they count as errors"
    """
    counts = Counter(character for one in utterances for character in "".join(one.text.split()))
    unknown = tokenizer.unknown_characters("".join(counts))
    num_unknown, total = sum(counts[character] for character in unknown), sum(counts.values())
    if num_unknown > MAX_UNWRITABLE * total:
        check_alphabet(utterances, tokenizer)
    if not unknown:
        return None
    shown = "".join(sorted(unknown, key=lambda character: (-counts[character], character))[:MAX_SHOWN])
    more = f" and {len(unknown) - MAX_SHOWN} more" if len(unknown) > MAX_SHOWN else ""
    return (
        f"{num_unknown} of {total} characters of the texts are unknown to the tokenizer ({shown!r}{more}): they count "
        "as errors"
    )


def unwritable_warning(utterances: Sequence[Utterance], tokenizer: Tokenizer, unit: ErrorUnit = WORD) -> str | None:
    """Describe the characters of the references that the model cannot write; they are errors at every exit.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        A test set.
    tokenizer : Tokenizer
        The model's tokenizer.
    unit : ErrorUnit
        What errors are counted in: the words that have such characters are counted, or the characters.

    Returns
    -------
    str | None
        One line with the characters, the number of words and the remedy; None if the model can write all words.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["the cat"], path=path, model_type="char")
    >>> unwritable_warning([Utterance("a", path, 1.0, "The cat")], tokenizer)
    "1 of 2 words of the references have characters that the model cannot write ('T'): ... convert them to lower case"
    """
    words = Counter(word for utterance in utterances for word in utterance.text.split())
    counted = (
        words if unit == WORD else Counter(character for one in utterances for character in " ".join(one.text.split()))
    )
    affected = {word: count for word, count in words.items() if tokenizer.unknown_characters(word)}
    if not affected:
        return None
    found = Counter()
    for word, count in affected.items():
        found.update({letter: count * word.count(letter) for letter in tokenizer.unknown_characters(word)})
    shown = "".join(character for character, _ in found.most_common(MAX_SHOWN))
    more = f" and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
    written = "have characters that the model cannot write" if unit == WORD else "cannot be written by the model"
    number = sum((affected if unit == WORD else found).values())
    return (
        f"{number} of {sum(counted.values())} {unit.plural} of the references {written} ({shown!r}{more}): each counts "
        f"as an error at every exit; {_advice(affected, tokenizer)}"
    )


def _advice(words: Iterable[str], tokenizer: Tokenizer) -> str:
    """Return the first common change after which the model can write all words, else general advice."""
    changes = {
        "convert them to lower case": str.lower,
        "convert them to upper case": str.upper,
        "convert them to lower case and remove the punctuation": lambda word: re.sub(r"[^\w\s']|_", "", word.lower()),
    }
    for advice, change in changes.items():
        if not any(tokenizer.unknown_characters(change(word)) for word in words):
            return advice
    return "normalize the references as the training texts, or train on texts that have these characters"


def check_not_too_long(
    utterances: Sequence[Utterance],
    num_frames_fn: Callable[[int], int],
    max_frames: int | None,
    *,
    speed: float = 1.0,
    sample_rate: int = 16000,
) -> None:
    """Check that the encoder accepts the length of every utterance.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        With correct durations, see :func:`~speechbrain_ee.corpora.recordings.check_durations`.
    num_frames_fn : Callable[[int], int]
        Maps a number of samples to encoder frames.
    max_frames : int | None
        Limit of the encoder; None for no limit.
    speed : float
        Lowest factor of the speed perturbation, which lengthens utterances.
    sample_rate : int
        Sample rate in Hz.

    Raises
    ------
    ValueError
        If an utterance is longer; the message counts them and names the first.

    Example
    -------
    >>> check_not_too_long([Utterance("a", "a.wav", 2.0, "b")], lambda samples: samples // 640, 100)
    """
    if max_frames is None:
        return
    too_long = [one for one in utterances if num_frames_fn(round(one.duration * sample_rate / speed)) > max_frames]
    if too_long:
        raise ValueError(
            f"{len(too_long)} of {len(utterances)} utterances are longer than the {max_frames} frames that the encoder "
            f"takes (first: {too_long[0].id}, {too_long[0].duration:.1f} s): cut or remove them; slow "
            "--speeds lengthen them, and a Conformer with --attention_type RelPosMHAXL has no limit"
        )


def drop_too_short(
    utterances: Sequence[Utterance],
    tokenizer: Tokenizer,
    num_frames_fn: Callable[[int], int],
    *,
    speed: float = 1.0,
    sample_rate: int = 16000,
) -> list[Utterance]:
    """Leave out utterances that are too short for CTC, whose loss would silently be 0.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        With correct durations, see :func:`~speechbrain_ee.corpora.recordings.check_durations`.
    tokenizer : Tokenizer
        Converts texts to tokens.
    num_frames_fn : Callable[[int], int]
        Maps a number of samples to encoder frames.
    speed : float
        Highest factor of the speed perturbation, which shortens utterances.
    sample_rate : int
        Sample rate in Hz.

    Returns
    -------
    list[Utterance]
        Utterances that are long enough. A warning counts the others and names the first five.

    Raises
    ------
    ValueError
        If no utterance is left.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["the cat"], path=path, model_type="char")
    >>> utterances = [Utterance("a", path, 0.1, "cat"), Utterance("b", path, 1.0, "cat")]
    >>> kept = drop_too_short(utterances, tokenizer, lambda num_samples: num_samples // 640)
    >>> [utterance.id for utterance in kept]
    ['b']
    """
    kept, dropped = [], []
    for utterance in utterances:
        num_frames = num_frames_fn(int(utterance.duration * sample_rate / speed))
        needed = ctc_frames_needed(tokenizer.encode(utterance.text))
        (kept if num_frames >= needed else dropped).append(utterance.id)
    if not kept:
        raise ValueError(
            f"all {len(utterances)} utterances are too short for their text under CTC: check the durations, or use a "
            "larger vocabulary or less subsampling"
        )
    if dropped:
        logger.warning(
            "%d of %d utterances are too short for their text under CTC and are left out: %s%s",
            *(len(dropped), len(utterances), ", ".join(dropped[:5])),
            ", ..." if len(dropped) > 5 else "",
        )
    kept_ids = set(kept)
    return [utterance for utterance in utterances if utterance.id in kept_ids]
