# SPDX-License-Identifier: Apache-2.0
"""Measure the WER of every exit policy at equal mean exit layer, from cached scores.

python benchmarks/replay.py FILE... [--mean-layers 8 9 10]

Prints JSON: an object, or a list for several files. ``null`` means that a policy cannot reach the mean layer. FILE is
an utterances.jsonl of an evaluation, or has a subset of its keys; all scores in it are used.

The threshold of a policy is the one with the given mean exit layer on the same utterances. Static exits reach it by
mixing the two nearest exits. The learned score is fitted on random halves of the file and measured on the other halves;
known speakers are in one half only.
"""

import argparse
import json
from pathlib import Path

from ee_runtime.errors import one_line_errors
from ee_runtime.policies import LearnedThreshold, ScoreThreshold
from speechbrain_ee.calibration.fit_learned import fit_learned_score
from speechbrain_ee.replay.available_scores import threshold_policies, usable_scores
from speechbrain_ee.replay.equal_cost import static_wer_at_mean_layer, wer_at_mean_layer
from speechbrain_ee.replay.replay import oracle, static_wer
from speechbrain_ee.replay.speakers import split_by_speaker
from speechbrain_ee.replay.utterances import read_utterances

NUM_SPLITS = 20


def compare(path: Path, mean_layers: list[float] | None) -> dict:
    """Compare all policies on one file."""
    utterances = read_utterances(path)
    static = static_wer(utterances)
    targets = mean_layers or [share * max(static) for share in (2 / 3, 3 / 4, 5 / 6)]
    policies = threshold_policies(utterances)
    if any(one.label == "posterior" for one in policies):
        policies.append(ScoreThreshold("posterior", 0.0, guarded=True))
    table = {"static": {target: static_wer_at_mean_layer(utterances, target) for target in targets}}
    for policy in policies:
        table[policy.label] = {target: wer_at_mean_layer(policy, utterances, target) for target in targets}
    table["learned"] = learned(utterances, targets)
    return {
        "file": str(path),
        "exits": {str(layer): round(wer, 3) for layer, wer in static.items()},
        "policies": {name: {f"{t:.1f}": rounded(wer) for t, wer in row.items()} for name, row in table.items()},
        "oracle": oracle(utterances),
    }


def learned(utterances: list[dict], targets: list[float]) -> dict[float, float | None]:
    """Return the WER of a learned score by cross-validation on random halves, pooled over all words."""
    try:
        names = usable_scores(utterances)
    except ValueError:  # no scores in the file: only static exits are compared
        return dict.fromkeys(targets)
    judged = {target: [] for target in targets}
    for seed in range(NUM_SPLITS if len(utterances) > 1 else 0):
        halves = split_by_speaker(utterances, seed)
        for fitted_on, others in (halves, halves[::-1]):
            policy = LearnedThreshold(fit_learned_score(fitted_on, names), 0.0)
            words = sum(one["num_words"] for one in others)
            for target, found in judged.items():
                found.append((wer_at_mean_layer(policy, others, target), words))
    return {target: pooled(found) for target, found in judged.items()}


def pooled(found: list[tuple[float | None, int]]) -> float | None:
    """Return the mean of the WERs weighted by words, or None if one of them is None."""
    if not found or any(wer is None for wer, _ in found):
        return None
    return sum(wer * words for wer, words in found) / sum(words for _, words in found)


def rounded(wer: float | None) -> float | None:
    """Round to four digits."""
    return None if wer is None else round(wer, 4)


def markdown(found: dict) -> str:
    """Return a table of WERs by policy and mean layer, the lowest per mean layer in bold."""
    targets = list(found["policies"]["static"])
    best = {t: min(row[t] for row in found["policies"].values() if row[t] is not None) for t in targets}
    lines = [
        "| policy | " + " | ".join(f"WER % at mean layer {t}" for t in targets) + " |",
        "|---" * (len(targets) + 1) + "|",
    ]
    for name, row in found["policies"].items():
        cells = ["" if row[t] is None else f"{row[t]:.2f}" for t in targets]
        bold = [f"**{cell}**" if row[t] == best[t] else cell for t, cell in zip(targets, cells, strict=True)]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(bold) + " |")
    return "\n".join(lines)


def main() -> None:
    """Compare the policies on all files and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="utterances.jsonl, or a file with a subset of its keys")
    parser.add_argument(
        "--mean-layers",
        type=float,
        nargs="+",
        help="mean exit layers to compare at; default: 2/3, 3/4 and 5/6 of the depth",
    )
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    with one_line_errors("replay.py"):
        found = [compare(path, args.mean_layers) for path in args.files]
        text = json.dumps(found[0] if len(found) == 1 else found, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
