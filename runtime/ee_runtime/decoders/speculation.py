# SPDX-License-Identifier: Apache-2.0
"""Speculative greedy decoding: the attention decoder checks a draft in one pass and continues alone where it disagrees.

The algorithm is that of Leviathan et al., "Fast inference from Transformers via speculative decoding" (arXiv
2211.17192), with greedy acceptance: the result equals plain greedy decoding for every draft. The draft is the CTC text,
which is available at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence

from ee_runtime.backend import ExitOutput
from ee_runtime.decoders.attention_search import GrowingText, Hypothesis, Limit
from ee_runtime.special_tokens import BOS_INDEX

REALIGN_WINDOW = 4  # draft tokens in which the attention decoder's token is searched for after a disagreement
FIRST_WINDOW = 8  # draft tokens in the first pass; rejected tokens cost computation


def speculative_search(output: ExitOutput, limit: Limit, draft: Sequence[int]) -> tuple[Hypothesis, dict[str, int]]:
    """Search greedily with a draft.

    Arguments
    ---------
    output : ExitOutput
        Output of an exit with an attention decoder for one utterance.
    limit : Limit
        Length limit of the text.
    draft : sequence of int
        Tokens without BOS and EOS.

    Returns
    -------
    tuple
        The hypothesis of :func:`~ee_runtime.decoders.attention_search.greedy_search`, and counts: ``passes`` of the
        attention decoder, draft tokens ``offered`` to it, and draft tokens ``accepted``.
    """
    cost, max_length = output.attention_decoder.cost, output.attention_decoder.max_length
    (frames,) = output.lengths.tolist()
    growing, run = GrowingText(limit), output.start_attention()
    counts = {"passes": 0, "offered": 0, "accepted": 0}
    macs = cost.start_macs(frames)
    last, draft, window = BOS_INDEX, list(draft), FIRST_WINDOW
    while True:
        before = run.num_tokens
        offered = draft[: min(window, max_length - 1 - before)]
        found = run.read([[last, *offered]])
        counts["passes"] += 1
        counts["offered"] += len(offered)
        macs += cost.text_macs(frames, run.num_tokens) - cost.text_macs(frames, before)
        columns = (found.best_tokens, found.best_log_probs, found.entropies)
        chosen = zip(*(one[0].tolist() for one in columns), strict=True)
        accepted = 0
        for place, (token, log_prob, entropy) in enumerate(chosen):
            if not growing.read(token, log_prob, entropy):
                counts["accepted"] += accepted
                return growing.hypothesis(macs), counts
            last = token
            if place < len(offered) and token == offered[place]:
                accepted += 1
            else:
                break
        counts["accepted"] += accepted
        run.cut(before + 1 + accepted)
        window = 2 * max(window, 1) if accepted == len(offered) else max(1, 2 * accepted)
        draft = _realign(draft[accepted:], last)


def _realign(rest: list[int], token: int) -> list[int]:
    """Return the rest of a draft after the attention decoder has chosen ``token`` instead of the next draft token.

    Example
    -------
    >>> _realign([5, 6, 7], 6), _realign([5, 6, 7], 9)
    ([7], [6, 7])
    """
    if token in rest[:REALIGN_WINDOW]:
        return rest[rest.index(token) + 1 :]
    return rest[1:]
