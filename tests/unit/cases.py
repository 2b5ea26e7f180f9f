# SPDX-License-Identifier: Apache-2.0
"""Three utterances of a model with two exits, small enough to work out on paper."""


def utterance(identity, reference, hypotheses, errors, entropy, speaker=None):
    exits = [
        {
            "layer": 2 * index + 2,
            "hypothesis": hypothesis,
            "errors": {"S": wrong, "D": 0, "I": 0},
            "scores": {"entropy": score, "posterior": 1 - score},
            "macs": 1000 * (index + 1),
        }
        for index, (hypothesis, wrong, score) in enumerate(zip(hypotheses, errors, entropy, strict=True))
    ]
    return {
        "id": identity,
        "audio_filepath": f"{identity}.wav",
        "speaker": speaker,
        "duration": 2.0,
        "reference": reference,
        "num_words": len(reference.split()),
        "exits": exits,
    }


def three_utterances():
    """Words 2 + 1 + 1; errors at layer 2: 1 + 0 + 1, at layer 4: 0 + 0 + 1."""
    return [
        utterance("a", "ab cd", ["ab ce", "ab cd"], [1, 0], [0.3, 0.1], "s1"),
        utterance("b", "ef", ["ef", "ef"], [0, 0], [0.1, 0.1], "s1"),
        utterance("c", "gh", ["xx", "gx"], [1, 1], [0.5, 0.4], "s2"),
    ]


def subset(utterances):
    """The form without texts, costs and durations."""
    return [
        {
            "id": u["id"],
            "num_words": u["num_words"],
            "exits": [{k: e[k] for k in ("layer", "errors", "scores")} for e in u["exits"]],
        }
        for u in utterances
    ]
