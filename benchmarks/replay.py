# SPDX-License-Identifier: Apache-2.0
"""WER of every exit policy at equal mean exit layer, from cached scores alone.

python benchmarks/replay.py FILE... [--mean-layers 8 9 10]

FILE is an utterances.jsonl of an evaluation, or any subset of its form: whatever scores it has are used. Policies with
nothing to fit see the whole file. The learned score is fitted on random halves, no speaker in both where they are
known, and judged on the other halves, errors pooled over words. At every mean layer the threshold is the one that gives
this mean on the utterances that are judged; static mixes the two exits around it. Prints JSON, one object, or a list
for several files; null is out of reach.
"""

import argparse
import json
from pathlib import Path

from speechbrain_ee.calibration.fit_learned import fit_learned_score
from speechbrain_ee.errors import one_line_errors
from speechbrain_ee.policies import LearnedThreshold, ScoreThreshold
from speechbrain_ee.replay.equal_cost import static_wer_at_mean_layer, wer_at_mean_layer
from speechbrain_ee.replay.replay import oracle, static_wer
from speechbrain_ee.replay.sweeps import threshold_policies, usable_scores
from speechbrain_ee.replay.utterances import read_utterances, split_by_speaker

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
    """Fit on one half, judge on the other, both ways, over random splits; errors are pooled."""
    try:
        names = usable_scores(utterances)
    except ValueError:  # a file without scores still has its static exits
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
    """Mean of WERs weighted by words; None if one was out of reach."""
    if not found or any(wer is None for wer, _ in found):
        return None
    return sum(wer * words for wer, words in found) / sum(words for _, words in found)


def rounded(wer: float | None) -> float | None:
    """Two digits more than are worth reading."""
    return None if wer is None else round(wer, 4)


def markdown(found: dict) -> str:
    """A table of policies and mean layers, the lowest WER of each in bold."""
    targets = list(found["policies"]["static"])
    best = {t: min(row[t] for row in found["policies"].values() if row[t] is not None) for t in targets}
    lines = ["| policy | " + " | ".join(f"mean layer {t}" for t in targets) + " |", "|---" * (len(targets) + 1) + "|"]
    for name, row in found["policies"].items():
        cells = ["" if row[t] is None else f"{row[t]:.2f}" for t in targets]
        bold = [f"**{cell}**" if row[t] == best[t] else cell for t, cell in zip(targets, cells, strict=True)]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(bold) + " |")
    return "\n".join(lines)


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="utterances.jsonl, or a subset of its form")
    parser.add_argument(
        "--mean-layers", type=float, nargs="+", help="where to compare; 2/3, 3/4 and 5/6 of the depth by default"
    )
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    args = parser.parse_args()
    with one_line_errors("replay.py"):
        found = [compare(path, args.mean_layers) for path in args.files]
        text = json.dumps(found[0] if len(found) == 1 else found, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
