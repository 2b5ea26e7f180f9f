# SPDX-License-Identifier: Apache-2.0
"""Exit scores: one number per utterance and exit that measures how sure the model is. Standard library only.

The registry ``SCORES`` states for every name whether a higher or a lower value is surer.
:mod:`speechbrain_ee.inference.ctc_scores` computes the values.

Sources: the mean frame entropy and the n-best posterior are the rules of Wright et al., arXiv 2309.09546. Their code
divides the summed entropy by ``frames * tokens``. Here it is divided by ``frames * log(tokens)``, the entropy of a
uniform distribution: the score is in [0, 1], and a threshold does not depend on the vocabulary size. Tsallis and Renyi
entropies of order 1/3 are from Laptev and Ginsburg, "Fast entropy-based methods of word-level confidence estimation for
end-to-end ASR", arXiv 2212.08703. Agreement of successive exits is the criterion of PABEE (Zhou et al., "BERT loses
patience", arXiv 2006.04152).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreInfo:
    """Definition of a score.

    Arguments
    ---------
    name : str
        Its name in ``utterances.jsonl``, in policies and in tables.
    higher_is_surer : bool | None
        Direction: True if a policy stops at or above its threshold, False if it stops at or below; None if the value
        does not measure how sure the model is. Only a learned score uses it then.
    description : str
        One line for tables and error messages.
    needs_previous : bool
        Whether it compares an exit with the previous one, whose head must then be computed.
    from_decoder : str | None
        The decoding that computes it; None if it is computed from the CTC head alone.
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
        ScoreInfo("entropy_nonblank", False, "the same over frames whose best token is not blank"),
        ScoreInfo("tsallis", False, "mean Tsallis entropy of a frame / its largest value"),
        ScoreInfo("tsallis_nonblank", False, "the same over frames whose best token is not blank"),
        ScoreInfo("renyi", False, "mean Renyi entropy of a frame / log(vocabulary size)"),
        ScoreInfo("renyi_nonblank", False, "the same over frames whose best token is not blank"),
        ScoreInfo("confidence", True, "mean probability of the best token of each frame"),
        ScoreInfo("confidence_min", True, "lowest probability of the best token over all frames"),
        ScoreInfo("agreement", True, "1 - token edit distance to the previous exit's text / longer length", True),
        ScoreInfo("change", False, "mean total variation distance to the previous exit's frames", True),
        ScoreInfo("token_rate", None, "recognised tokens per frame"),
        ScoreInfo(
            "attention_entropy",
            False,
            "mean entropy of the attention decoder's tokens / log(vocabulary size)",
            from_decoder=_ATTENTION,
        ),
        ScoreInfo(
            "attention_confidence",
            True,
            "exp of the mean log-probability of the attention decoder's tokens, EOS included",
            from_decoder=_ATTENTION,
        ),
        ScoreInfo(
            "ctc_attention_agreement",
            True,
            "1 - token edit distance between the texts of CTC head and attention decoder / longer length",
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
    """Check that score names are in the registry.

    Arguments
    ---------
    names : iterable of str
        The names to check.

    Raises
    ------
    ValueError
        If a name is unknown; the message lists the known names.

    Example
    -------
    >>> check_score_names(["entropy", "posterior"])
    """
    unknown = sorted(set(names) - set(SCORES))
    if unknown:
        raise ValueError(f"unknown exit score {', '.join(map(repr, unknown))}; known: {', '.join(SCORES)}")


def score_value(scores: Mapping[str, float | None], name: str) -> float:
    """Return one score of an exit; null in a file is NaN.

    Arguments
    ---------
    scores : mapping of str to float
        All scores of the exit.
    name : str
        Name of the score.

    Returns
    -------
    float
        Its value.

    Raises
    ------
    ValueError
        If the score was not computed; the message lists the computed ones.

    Example
    -------
    >>> score_value({"entropy": 0.25, "posterior": None}, "posterior")
    nan
    """
    if name not in scores:
        known = ", ".join(scores) or "none"
        raise ValueError(f"exit score {name!r} was not computed here; choose one of: {known}")
    return math.nan if scores[name] is None else scores[name]
