# SPDX-License-Identifier: Apache-2.0
"""Calibrate exit policies of evaluated runs on one set, and measure them on the others, from cached scores.

python benchmarks/calibrated.py conformer=results/more_speech/conformer demo=results/conformer_ee/1234 --out FILE \
    [--fit dev] [--max-wer-increase 0.5] [--scores entropy change learned] [--promise 1 --promise-on SET]

The threshold of each score is the one with the lowest cost whose WER on --fit is at most --max-wer-increase points
above that of full depth. It is then used on every set of RUN/eval that was decoded like --fit.

With --promise, a promise of that many points is calibrated on one half of the speakers of --promise-on, and measured on
the other half.

Prints Markdown tables and writes FILE.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ee_runtime.errors import one_line_errors
from ee_runtime.policies import FixedExit, Policy, policy_from_dict
from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.replay.replay import replay
from speechbrain_ee.replay.speakers import split_by_speaker
from speechbrain_ee.replay.utterances import read_utterances

SCORES = ("entropy", "change", "learned")


def measured(policy: Policy, utterances: Sequence[dict]) -> dict:
    """Return the result of a policy on a set: WER, points above full depth, share of its MACs, mean exit layer."""
    full, found = replay(FixedExit(), utterances), replay(policy, utterances)
    return {
        "wer": round(found.wer, 3),
        "increase": round(found.wer - full.wer, 3),
        "macs_share": round(found.macs_per_s / full.macs_per_s, 4),
        "mean_layer": round(found.mean_layer, 3),
    }


def calibrated(run: Path, fit: str, scores: Sequence[str], increase: float) -> dict:
    """Return the results of the calibrated policies by score and set."""
    from equal_cost import judged_sets  # benchmarks/equal_cost.py

    sets = {fit: run / "eval" / fit / "utterances.jsonl"} | judged_sets(run, fit)
    lines = {name: read_utterances(path) for name, path in sets.items()}
    found = {"full depth": {name: measured(FixedExit(), one) for name, one in lines.items()}}
    for score in scores:
        record = calibrate(lines[fit], score=score, target={"max_wer_increase": increase}, fitted_on=fit)
        policy = policy_from_dict(record["policy"])
        found[score] = {name: measured(policy, one) for name, one in lines.items()}
    return found


def promised(run: Path, *, test_set: str, scores: Sequence[str], points: float, delta: float) -> dict:
    """Calibrate promises on one half of the speakers of a set, and measure them on the other half.

    A set that is too small for a promise is a result, too: ``refused`` says why.
    """
    calibration, rest = split_by_speaker(read_utterances(run / "eval" / test_set / "utterances.jsonl"), seed=0)
    found = {}
    for score in scores:
        try:
            record = calibrate(calibration, score=score, target={"promise": points, "delta": delta}, fitted_on=test_set)
        except ValueError as error:
            found[score] = {"refused": str(error)}
            continue
        policy = policy_from_dict(record["policy"])
        found[score] = {
            "granted": not isinstance(policy, FixedExit),
            "here": measured(policy, calibration),
            "others": measured(policy, rest),
        }
    return found


def markdown(found: dict) -> str:
    """Return a table per run: policies by set, with WER, points above full depth and share of its MACs."""
    lines = []
    for run, policies in found["runs"].items():
        sets = list(policies["full depth"])
        lines += [f"\n{run}\n", "| policy | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
        for policy, results in policies.items():
            lines.append(f"| {policy.replace('_', ' ')} | " + " | ".join(_cell(results[one]) for one in sets) + " |")
    return "\n".join(lines)


def promise_markdown(found: dict) -> str:
    """Return a table of the promises: points above full depth and share of its MACs, by run and score."""
    lines = ["| model | score | speakers of the calibration | other speakers |", "|---|---|---|---|"]
    for run, scores in found["promises"].items():
        for score, one in scores.items():
            if reason := one.get("refused"):
                lines.append(f"| {run} | {score.replace('_', ' ')} | refused: {reason.partition(':')[0]} | |")
                continue
            here, others = (_cell(one[part]) if one["granted"] else "full depth" for part in ("here", "others"))
            lines.append(f"| {run} | {score.replace('_', ' ')} | {here} | {others} |")
    return "\n".join(lines)


def _cell(one: dict) -> str:
    if not one["increase"] and one["macs_share"] == 1:
        return f"{one['wer']:.1f}"
    return f"{one['wer']:.1f} ({one['increase']:+.2f}) {100 * one['macs_share']:.0f} %"


def publish(
    runs: dict[str, str | Path],
    out: Path,
    *,
    scores: Sequence[str] = SCORES,
    fit: str = "dev",
    increase: float = 0.5,
    promise: dict | None = None,
) -> None:
    """Calibrate and measure all runs, print the tables and write the file.

    Arguments
    ---------
    runs : dict
        Run folders by name.
    out : Path
        The file.
    scores : sequence of str
        Scores of the policies.
    fit : str
        Set to calibrate on.
    increase : float
        Points of WER above full depth.
    promise : dict | None
        ``points``, ``delta`` and ``test_set`` of :func:`promised`; None means no promise.
    """
    found = {"fitted_on": fit, "max_wer_increase": increase}
    found["runs"] = {name: calibrated(Path(run), fit, scores, increase) for name, run in runs.items()}
    if promise is not None:
        found |= {"promise": promise["points"], "delta": promise["delta"], "promise_on": promise["test_set"]}
        found["promises"] = {name: promised(Path(run), scores=scores, **promise) for name, run in runs.items()}
        print(promise_markdown(found))
    out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(markdown(found))


def main() -> None:
    """Calibrate, measure, print and write."""
    from side_by_side import named_runs  # benchmarks/side_by_side.py

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="NAME=RUN, a run folder with evaluated sets")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--fit", default="dev", help="set to calibrate on")
    parser.add_argument("--max-wer-increase", type=float, default=0.5, help="points of WER above full depth")
    parser.add_argument("--scores", nargs="+", default=SCORES)
    parser.add_argument("--promise", type=float, help="points of WER to promise")
    parser.add_argument("--delta", type=float, default=0.1, help="probability that a promise is wrong")
    parser.add_argument("--promise-on", help="set whose speakers are halved for the promise")
    args = parser.parse_args()
    with one_line_errors("calibrated.py"):
        if (args.promise is None) != (args.promise_on is None):
            raise ValueError("give both --promise and --promise-on")
        promise = {"points": args.promise, "delta": args.delta, "test_set": args.promise_on} if args.promise else None
        options = {"scores": args.scores, "fit": args.fit, "increase": args.max_wer_increase, "promise": promise}
        publish(named_runs(args.runs), args.out, **options)


if __name__ == "__main__":
    main()
