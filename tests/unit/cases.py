# SPDX-License-Identifier: Apache-2.0
"""Made-up utterances: three small enough to work out on paper, and many whose entropies say the truth."""

import numpy as np


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


def many(count=400, seed=0, speakers=0, shift=0.0):
    """Utterances of 10 words at exits 2, 4, 6: what entropy says of the errors is true."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        hardness = rng.random()
        rates = hardness * np.array([2.0, 0.6, 0.2])
        entropies = np.clip(hardness * np.array([0.9, 0.5, 0.3]) + rng.normal(0, 0.03, 3) + shift, 0.001, 0.999)
        exits = [
            {
                "layer": 2 * index + 2,
                "errors": {"S": int(rng.poisson(rate)), "D": 0, "I": 0},
                "scores": {"entropy": float(entropy), "confidence": float(1 - entropy), "agreement": float(index > 1)},
                "macs": 100 * (index + 1),
            }
            for index, (rate, entropy) in enumerate(zip(rates, entropies, strict=True))
        ]
        speaker = f"s{number % speakers}" if speakers else None
        found.append({"id": str(number), "speaker": speaker, "num_words": 10, "duration": 2.0, "exits": exits})
    return found


def in_characters(utterances, per_word=6):
    """Add counts of characters in proportion to those of words."""
    found = []
    for one in utterances:
        exits = [
            {**exit, "char_errors": {kind: per_word * count for kind, count in exit["errors"].items()}}
            for exit in one["exits"]
        ]
        found.append({**one, "num_chars": per_word * one["num_words"], "exits": exits})
    return found
