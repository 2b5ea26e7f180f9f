# SPDX-License-Identifier: Apache-2.0
"""Checks that every utterance can be learned from, before hours are spent."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from unicodedata import normalize

from speechbrain.utils.logger import get_logger

from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.text.ctc_paths import ctc_frames_needed
from speechbrain_ee.text.tokenizer import Tokenizer

logger = get_logger(__name__)

SAMPLE_RATE = 16000
MAX_SHOWN = 40  # characters in a warning


def check_alphabet(utterances: Sequence[Utterance], tokenizer: Tokenizer) -> None:
    """Checks that the tokenizer can write every text.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        Whose texts are to be labels.
    tokenizer : Tokenizer
        With the alphabet.

    Raises
    ------
    ValueError
        If a text has characters outside the alphabet; names how many, which, and the first id.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["the cat"], path=path, model_type="char")
    >>> check_alphabet([Utterance("a", path, 1.0, "the cat")], tokenizer)
    """
    unknown = {utt.id: tokenizer.unknown_characters(utt.text) for utt in utterances}
    bad_ids = [name for name, characters in unknown.items() if characters]
    if bad_ids:
        characters = "".join(sorted(set().union(*unknown.values())))
        raise ValueError(
            f"{len(bad_ids)} of {len(utterances)} texts have characters that the tokenizer does "
            f"not know: {characters!r} (first: {bad_ids[0]}); clean the texts, or train the "
            "tokenizer on texts that have these characters"
        )


def unwritable_warning(utterances: Sequence[Utterance], tokenizer: Tokenizer) -> str | None:
    """Says which characters of the references the model cannot write: a word with one counts as an error at every exit.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        A test set.
    tokenizer : Tokenizer
        Of the model.

    Returns
    -------
    str | None
        One line with the characters, the words that have them, and what to do; None where all can be written.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["the cat"], path=path, model_type="char")
    >>> unwritable_warning([Utterance("a", path, 1.0, "The cat")], tokenizer)
    "1 of 2 words of the references have characters that the model cannot write ('T'): ... put them in lower case"
    """
    words = Counter(word for utterance in utterances for word in utterance.text.split())
    affected = {word: count for word, count in words.items() if tokenizer.unknown_characters(word)}
    if not affected:
        return None
    found = Counter()
    for word, count in affected.items():
        found.update({character: count for character in tokenizer.unknown_characters(word)})
    shown = "".join(character for character, _ in found.most_common(MAX_SHOWN))
    more = f" and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
    return (
        f"{sum(affected.values())} of {sum(words.values())} words of the references have characters that the model "
        f"cannot write ({shown!r}{more}): each counts as an error at every exit; {_advice(affected, tokenizer)}"
    )


def _advice(words: Iterable[str], tokenizer: Tokenizer) -> str:
    """The change after which the model can write all of the words, if one of the usual does that."""
    changes = {
        "put them in lower case": str.lower,
        "put them in capitals": str.upper,
        "normalize them to NFC": partial(normalize, "NFC"),
        "put them in lower case and remove the punctuation": lambda word: re.sub(r"[^\w\s']|_", "", word.lower()),
    }
    for advice, change in changes.items():
        if not any(tokenizer.unknown_characters(change(word)) for word in words):
            return advice
    return "write the references as the training texts were written"


def check_not_too_long(
    utterances: Sequence[Utterance],
    num_frames_fn: Callable[[int], int],
    max_frames: int | None,
    *,
    speed: float = 1.0,
    sample_rate: int = 16000,
) -> None:
    """Checks before training that the encoder takes every utterance.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        With durations that are right (check_durations).
    num_frames_fn : Callable[[int], int]
        Encoder frames for a number of samples.
    max_frames : int | None
        What the encoder takes; None is no limit.
    speed : float
        The slowest that augmentation plays.
    sample_rate : int
        Of the samples, in Hz.

    Raises
    ------
    ValueError
        If an utterance is longer; counts them and names the first.

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
    sample_rate: int = SAMPLE_RATE,
) -> list[Utterance]:
    """Drops what CTC cannot align; SpeechBrain's ctc_loss would count it as zero without a word.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        With durations that are right (check_durations).
    tokenizer : Tokenizer
        Text to token ids.
    num_frames_fn : Callable[[int], int]
        Number of samples -> number of the encoder's output frames.
    speed : float
        The highest speed of the speed perturbation, which shortens utterances.
    sample_rate : int
        Of these samples, in Hz.

    Returns
    -------
    list[Utterance]
        Those that are long enough; what is dropped is counted and named in one warning.

    Raises
    ------
    ValueError
        If nothing is left.

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
            f"all {len(utterances)} utterances are too short for their text under CTC: check the "
            "durations, use a larger vocabulary or less subsampling"
        )
    if dropped:
        logger.warning(
            "%d of %d utterances are too short for their text under CTC and are left out: %s%s",
            *(len(dropped), len(utterances), ", ".join(dropped[:5])),
            ", ..." if len(dropped) > 5 else "",
        )
    kept_ids = set(kept)
    return [utterance for utterance in utterances if utterance.id in kept_ids]
