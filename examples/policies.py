#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Use the policies alone: choose a threshold over the scores of another toolkit, and decide with it.

python examples/policies.py dev.jsonl test.jsonl [--max-wer-increase 0.5]

A line of a file is what the other toolkit knows of an utterance, with one entry per exit, first exit first:

{"utt": "u1", "ref": "the cat", "exits": [{"block": 4, "hyp": "the cap", "sure": 0.71}, {"block": 8, ...}]}

``sure`` is any number from 0 to 1 that grows with certainty. Neither torch nor audio is needed.
"""

import argparse
import json
from pathlib import Path

from ee_runtime.calibration.summary import summary
from ee_runtime.policies import Look, Policy, policy_from_dict
from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.replay.replay import oracle, replay, static_wer
from speechbrain_ee.text.metrics import word_errors

SCORE = "confidence"  # the name of a score whose direction fits: higher is surer


def read(path: Path) -> list[dict]:
    """Convert the lines of the other toolkit to those of ``utterances.jsonl``."""
    utterances = []
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        exits = [
            {
                "layer": one["block"],
                "errors": word_errors(row["ref"], one["hyp"]),
                "scores": {SCORE: one["sure"]},
            }
            for one in row["exits"]
        ]
        utterances.append({"id": row["utt"], "num_words": len(row["ref"].split()), "exits": exits})
    return utterances


def decide(policy: Policy, scores: list[float], layers: tuple[int, ...]) -> int:
    """Return the exit layer taken, asking the policy after each exit, as a recogniser does while it runs."""
    known: list[dict] = []
    for index, score in enumerate(scores):
        known.append({SCORE: score})  # a recogniser computes the layers up to this exit here
        if policy.stop(Look(exit_index=index, exit_layers=layers, scores=known)):
            return layers[index]
    return layers[-1]


def main(argv: list[str] | None = None) -> Policy:
    """Print static exits, the policy and the oracle on the test set; return the policy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dev", type=Path, help="utterances to choose the threshold on")
    parser.add_argument("test", type=Path, help="other utterances")
    parser.add_argument("--max-wer-increase", type=float, default=0.5, help="points of WER above the last exit, on dev")
    given = parser.parse_args(argv)
    calibration = calibrate(read(given.dev), score=SCORE, target={"max_wer_increase": given.max_wer_increase})
    policy = policy_from_dict(calibration["policy"])
    print(summary(calibration))
    utterances = read(given.test)
    for layer, wer in static_wer(utterances).items():
        print(f"exit layer {layer}: WER {wer:.2f} %")
    result, bound = replay(policy, utterances), oracle(utterances)
    print(f"{policy}: WER {result.wer:.2f} % at mean layer {result.mean_layer:.2f}")
    print(f"oracle: WER {bound['wer']:.2f} % at mean layer {bound['mean_layer']:.2f}")
    layers = tuple(one["layer"] for one in utterances[0]["exits"])
    first = [one["scores"][SCORE] for one in utterances[0]["exits"]]
    print(f"{utterances[0]['id']} stops after layer {decide(policy, first, layers)}")
    return policy


if __name__ == "__main__":
    main()
