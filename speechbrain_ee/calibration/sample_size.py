# SPDX-License-Identifier: Apache-2.0
"""The sampling units of a promise, speakers or utterances, and how many of them it needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ee_runtime.calibration.defaults import MIN_UTTERANCES
from speechbrain_ee.calibration.risk import PSEUDO_SPEAKERS, PSEUDO_WORDS, pseudo_loss


def fewest(delta: float, allowed: float, by_speaker: bool, unseen: float = PSEUDO_WORDS) -> int:
    """Return the smallest number of units that grants a promise if none of them loses a word.

    Arguments
    ---------
    delta : float
        Allowed probability of a broken promise.
    allowed : float
        Mean number of words that a unit may lose; see :func:`pseudo_loss`.
    by_speaker : bool
        Whether the units are speakers; otherwise they are utterances.
    unseen : float
        See :func:`pseudo_loss`.

    Returns
    -------
    int
        With fewer units, no promise is possible.

    Example
    -------
    >>> fewest(0.1, 0.2, by_speaker=False)  # 1 point, 20 words: exp(-93 * 0.2 / 8) is below 0.1
    93
    """
    return math.ceil(-math.log(delta) * pseudo_loss(allowed, by_speaker, unseen) / allowed)


def fewest_speakers(delta: float) -> int:
    """Return the number of speakers that a promise requires, however much each of them says.

    With fewer speakers, the probability that no speaker of a failing tenth is in the set is above ``delta``.

    Example
    -------
    >>> fewest_speakers(0.1), fewest_speakers(0.05)  # 0.9 ** 22 is below 0.1
    (22, 29)
    """
    return math.ceil(math.log(delta) / math.log1p(-PSEUDO_SPEAKERS))


@dataclass(frozen=True)
class SamplingUnits:
    """The units that are taken to be independent.

    Arguments
    ---------
    speakers : list, optional
        Speaker of each utterance if speakers are the units; None if utterances are.
    num_independent : int
        Number of units.
    num_named : int
        Number of known speakers.
    num_unnamed : int
        Number of utterances without a speaker; each counts as a speaker.
    """

    speakers: list | None
    num_independent: int
    num_named: int
    num_unnamed: int

    def record(self) -> dict:
        """Return the entries of the promise in ``calibration.json``."""
        if self.speakers is None:
            found = {"independent": "utterances", "num_independent": self.num_independent}
            return found | {"num_speakers": self.num_named or None}
        return {"independent": "speakers", "num_independent": self.num_independent, "num_unnamed": self.num_unnamed}


def sampling_units(
    utterances: Sequence[Mapping], delta: float, *, same_speakers: bool = False, halved: bool = False
) -> SamplingUnits:
    """Determine the sampling units of a set, and check that there are enough of them.

    Speakers are the units where several are known, because utterances of one speaker are not independent.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    delta : float
        Allowed probability of a broken promise.
    same_speakers : bool
        Whether the promise is about the speakers of this set only. The units are then utterances.
    halved : bool
        Whether this is the half that a learned score was not fitted on; used by error messages.

    Returns
    -------
    SamplingUnits
        The units.

    Raises
    ------
    ValueError
        If there are too few utterances or speakers.
    """
    of_half = " in the half that the learned score was not fitted on" if halved else ""
    if len(utterances) < MIN_UTTERANCES:
        raise ValueError(
            f"a promise needs at least {MIN_UTTERANCES} utterances, and there are {len(utterances)}{of_half}; "
            "evaluate more"
        )
    speakers = [one.get("speaker") for one in utterances]
    num_named, num_unnamed = len(set(speakers) - {None}), speakers.count(None)
    if same_speakers or num_named == 0 or (num_named == 1 and num_unnamed == 0):
        return SamplingUnits(None, len(speakers), num_named, num_unnamed)
    number = num_named + num_unnamed
    if number < fewest_speakers(delta):
        raise ValueError(
            f"a promise with delta {delta:g} needs at least {fewest_speakers(delta)} speakers, and there are {number}"
            f"{of_half}: with fewer, a failure that affects one speaker in ten may not be in the set; evaluate more "
            "speakers, or ask for a promise about these speakers only (--same-speakers)"
        )
    return SamplingUnits(speakers, number, num_named, num_unnamed)
