# SPDX-License-Identifier: Apache-2.0
"""Exit scores: numbers per utterance and exit that say how sure the model is.

The registry ``SCORES`` says of every name whether higher or lower is surer. No torch here: policies and replay read
it too. :mod:`speechbrain_ee.inference.ctc_scores` computes them.

Sources: the mean frame entropy and the n-best posterior are the rules of Wright et al., arXiv 2309.09546.
Their code divides the summed entropy by ``frames * tokens``; here it is divided by ``frames * log(tokens)``,
the entropy of a uniform guess, so that a score lies in [0, 1] and a threshold keeps its meaning when the
vocabulary changes. Tsallis and Renyi entropies with order 1/3 are those of Laptev and Ginsburg, "Fast
entropy-based methods of word-level confidence estimation for end-to-end ASR", arXiv 2212.08703. Agreement of
successive exits is what PABEE counts (Zhou et al., "BERT loses patience", arXiv 2006.04152).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreInfo:
    """What a score's name means.

    Arguments
    ---------
    name : str
        The key in ``utterances.jsonl``, in policies and in reports.
    higher_is_surer : bool | None
        Direction: True if a policy stops at or above its threshold, False if at or below; None for a fact about the
        utterance, which only a learned score uses.
    description : str
        One line for reports and error messages.
    needs_previous : bool
        Whether it compares an exit with the one before, whose head must then have been run.
    from_decoder : str | None
        Which decoding gives it, where :func:`~speechbrain_ee.inference.ctc_scores.compute_scores` does not.
    """

    name: str
    higher_is_surer: bool | None
    description: str
    needs_previous: bool = False
    from_decoder: str | None = None


_ATTENTION = "an attention decoder"

SCORES: dict[str, ScoreInfo] = {
    info.name: info
    for info in (
        ScoreInfo("entropy", False, "mean Shannon entropy of a frame / log(vocabulary size)"),
        ScoreInfo("entropy_nonblank", False, "the same over the frames whose best token is not blank"),
        ScoreInfo("tsallis", False, "mean Tsallis entropy of a frame / its largest value"),
        ScoreInfo("tsallis_nonblank", False, "the same over the frames whose best token is not blank"),
        ScoreInfo("renyi", False, "mean Renyi entropy of a frame / log(vocabulary size)"),
        ScoreInfo("renyi_nonblank", False, "the same over the frames whose best token is not blank"),
        ScoreInfo("confidence", True, "mean probability of the best token of each frame"),
        ScoreInfo("confidence_min", True, "the lowest probability of the best token of a frame"),
        ScoreInfo("agreement", True, "1 - token edit distance to the previous exit's text / longer length", True),
        ScoreInfo("change", False, "mean total variation distance to the previous exit's frames", True),
        ScoreInfo("token_rate", None, "recognised tokens per frame"),
        ScoreInfo(
            "attention_entropy",
            False,
            "mean entropy of a token of the attention decoder / log(vocabulary size)",
            from_decoder=_ATTENTION,
        ),
        ScoreInfo(
            "attention_confidence",
            True,
            "exp of the mean log-probability of a token, EOS included, of the attention decoder",
            from_decoder=_ATTENTION,
        ),
        ScoreInfo(
            "ctc_attention_agreement",
            True,
            "1 - token edit distance between the CTC head's text and the attention decoder's / longer length",
            from_decoder=_ATTENTION,
        ),
        ScoreInfo(
            "posterior", True, "share of the best hypothesis in the n-best list", from_decoder="a beam search over CTC"
        ),
    )
}
FROM_ATTENTION = tuple(name for name, info in SCORES.items() if info.from_decoder == _ATTENTION)
COMPUTED = tuple(name for name, info in SCORES.items() if info.from_decoder is None)


def check_score_names(names: Iterable[str]) -> None:
    """Refuse score names that the registry does not know.

    Arguments
    ---------
    names : iterable of str
        The names to check.

    Raises
    ------
    ValueError
        If a name is unknown; the message lists the known ones.

    Example
    -------
    >>> check_score_names(["entropy", "posterior"])
    """
    unknown = sorted(set(names) - set(SCORES))
    if unknown:
        raise ValueError(f"unknown exit score {', '.join(map(repr, unknown))}; known: {', '.join(SCORES)}")


def score_value(scores: Mapping[str, float | None], name: str) -> float:
    """One score of an exit that was looked at; null in a file is NaN.

    Arguments
    ---------
    scores : mapping of str to float
        All scores of the exit.
    name : str
        The one wanted.

    Returns
    -------
    float
        Its value.

    Raises
    ------
    ValueError
        If the score was not computed; the message lists those that were.

    Example
    -------
    >>> score_value({"entropy": 0.25, "posterior": None}, "posterior")
    nan
    """
    if name not in scores:
        known = ", ".join(scores) or "none"
        raise ValueError(f"exit score {name!r} was not computed here; choose one of: {known}")
    return math.nan if scores[name] is None else scores[name]
