# SPDX-License-Identifier: Apache-2.0
"""Measure the WER of every exit policy and of static exits at equal MACs, from cached scores.

python benchmarks/equal_cost.py RUN [--fit dev] [--shares 0.5 0.6 0.7 0.8 0.9] [--out FILE]

Prints JSON: at each share of the MACs of full depth the WER of static exits, and for each policy its WER, the
difference to static exits, and the 95 % interval of the difference from a paired bootstrap over speakers. A negative
difference means that the policy is better. ``null`` means that the policy cannot reach this cost.

The learned score is fitted on the set --fit. The policies are compared on all other sets in RUN/eval that were decoded
with the same method. The threshold of a policy is the one that has the given cost on the compared set. A cost between
those of two thresholds, or of two static exits, is reached by mixing the two in proportion.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from ee_runtime.errors import one_line_errors
from ee_runtime.policies import LearnedThreshold
from ee_runtime.text.error_units import WORD, unit_of
from speechbrain_ee.calibration.fit_learned import fit_learned_score
from speechbrain_ee.replay.available_scores import threshold_policies, usable_scores
from speechbrain_ee.replay.equal_cost import errors_at_costs, static_errors_at_cost
from speechbrain_ee.replay.replay import ExitCounts
from speechbrain_ee.replay.speakers import sum_by_speaker
from speechbrain_ee.replay.utterances import read_utterances

NUM_DRAWS = 2000


def compare(utterances: list[dict], learned: LearnedThreshold, shares: list[float]) -> dict:
    """Compare every policy with static exits at every share of the MACs."""
    counts = ExitCounts.of(utterances)
    speakers = [one.get("speaker") for one in utterances]
    words = sum_by_speaker(counts.words, speakers)
    drawn = np.random.default_rng(0).multinomial(len(words), np.full(len(words), 1 / len(words)), NUM_DRAWS)
    found = {}
    policies = {
        one.label: errors_at_costs(one, utterances, shares) for one in [*threshold_policies(utterances), learned]
    }
    for place, share in enumerate(shares):
        static = static_errors_at_cost(counts, share)
        if static is None:
            continue
        row: dict = {"static": {"wer": wer(static, counts)}}
        for label, at_shares in policies.items():
            errors = at_shares[place]
            if errors is None:
                row[label] = None
                continue
            extra = sum_by_speaker(errors - static, speakers)
            rates = 100 * (drawn @ extra) / (drawn @ words)
            low, high = np.percentile(rates, [2.5, 97.5])
            row[label] = {
                "wer": wer(errors, counts),
                "difference": round(float(100 * extra.sum() / words.sum()), 3),
                "ci95": [round(float(low), 3), round(float(high), 3)],
            }
        found[f"{share:.2f}"] = row
    return found


def wer(errors: np.ndarray, counts: ExitCounts) -> float:
    """Return the WER over all words, in percent."""
    return round(float(100 * errors.sum() / counts.words.sum()), 3)


def markdown(found: dict) -> str:
    """Return a table per set: WER by policy and share of the MACs, in bold if the interval lies below static exits."""
    lines = []
    for name, shares in found["sets"].items():
        lines += [
            f"\n{name}\n",
            "| policy | " + " | ".join(f"{100 * float(share):.0f} % of MACs" for share in shares) + " |",
        ]
        lines.append("|---" * (len(shares) + 1) + "|")
        for policy in next(iter(shares.values())):
            lines.append(
                f"| {policy.replace('_', ' ')} | " + " | ".join(_cell(row[policy]) for row in shares.values()) + " |"
            )
    return "\n".join(lines)


def _cell(one: dict | None) -> str:
    if one is None:
        return ""
    if "ci95" not in one:
        return f"{one['wer']:.2f}"
    text = f"{one['wer']:.2f} ({one['difference']:+.2f})"
    return f"**{text}**" if one["ci95"][1] < 0 else text


def judged_sets(run: Path, fit: str) -> dict[str, Path]:
    """Return the other sets decoded like the set ``fit``: a learned score is valid for one decoding method."""

    def decoding(file: Path) -> str:
        contents = json.loads((file.parent / "exits.json").read_text("utf-8"))
        if unit_of(contents) is not WORD:
            raise ValueError(f"{file.parent / 'exits.json'} counts characters, and tables of WER words")
        return contents["decoding"]

    files = {one.parent.name: one for one in sorted(run.glob("eval/*/utterances.jsonl"))}
    return {name: one for name, one in files.items() if name != fit and decoding(one) == decoding(files[fit])}


def main() -> None:
    """Compare the policies on all sets and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder with evaluated sets")
    parser.add_argument("--fit", default="dev", help="set to fit the learned score on")
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.5, 0.6, 0.7, 0.8, 0.9], help="shares of the MACs of full depth"
    )
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    with one_line_errors("equal_cost.py"):
        fitting = read_utterances(args.run / "eval" / args.fit / "utterances.jsonl")
        learned = LearnedThreshold(fit_learned_score(fitting, usable_scores(fitting), per_second=True), 0.0)
        sets = judged_sets(args.run, args.fit)
        found = {name: compare(read_utterances(path), learned, args.shares) for name, path in sets.items()}
        text = json.dumps({"fitted_on": args.fit, "sets": found}, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
