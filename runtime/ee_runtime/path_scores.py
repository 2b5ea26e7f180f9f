# SPDX-License-Identifier: Apache-2.0
"""Exit scores of CTC best paths: the number of tokens, and agreement with the exit before."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ee_runtime.backend import ExitOutput
from ee_runtime.special_tokens import BLANK_INDEX
from ee_runtime.text.agreement import token_agreement
from ee_runtime.text.ctc_paths import collapse

PATH_SCORES = ("agreement", "token_rate")


def path_scores(
    output: ExitOutput, previous: ExitOutput | None, names: Sequence[str], *, blank_index: int = BLANK_INDEX
) -> list[dict[str, float]]:
    """Compute scores of CTC best paths; definitions: :mod:`ee_runtime.policies.scores`.

    Arguments
    ---------
    output : ExitOutput
        Output of the exit.
    previous : ExitOutput | None
        Output of the exit before for the same utterances; None gives the least sure agreement, 0.
    names : sequence of str
        Names from :data:`PATH_SCORES`.
    blank_index : int
        Index of the CTC blank.

    Returns
    -------
    list of dict
        Scores by name, one dict per utterance; NaN if a frame of it is NaN.
    """
    rows = []
    for row, (path, is_nan) in enumerate(zip(output.best_paths, _nan_rows(output, previous), strict=True)):
        tokens, scores = collapse(path, blank_index), {}
        if "token_rate" in names:
            scores["token_rate"] = len(tokens) / max(1, len(path))
        if "agreement" in names:
            before = None if previous is None else collapse(previous.best_paths[row], blank_index)
            scores["agreement"] = 0.0 if before is None else token_agreement(tokens, before)
        rows.append(dict.fromkeys(scores, math.nan) if is_nan else scores)
    return rows


def _nan_rows(output: ExitOutput, previous: ExitOutput | None) -> list[bool]:
    found = [any(map(math.isnan, probs)) for probs in output.best_probs]
    return found if previous is None else [a or b for a, b in zip(found, _nan_rows(previous, None), strict=True)]
