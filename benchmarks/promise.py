# SPDX-License-Identifier: Apache-2.0
"""Does the promise hold? Many calibration sets are drawn from a file that is taken for the population.

python benchmarks/promise.py FILE... [--out FILE]

FILE is an utterances.jsonl, or a subset of its form. From its N utterances N/2 are drawn with replacement, 1,000 times;
a promise is broken where the WER of the whole file at the chosen threshold is more than epsilon above the last exit's.
Beside each test the naive threshold: the cheapest one that keeps to epsilon on the draw itself. Prints JSON.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from speechbrain_ee.calibration import threshold_path
from speechbrain_ee.errors import one_line_errors
from speechbrain_ee.policies import ScoreThreshold
from speechbrain_ee.replay import ExitCounts
from speechbrain_ee.risk import TESTS, furthest_safe
from speechbrain_ee.sweeps import exits_taken
from speechbrain_ee.utterances import read_utterances

EPSILONS = (0.25, 0.5, 1.0, 2.0)
DELTA = 0.1
BOUND = 3.0
NUM_DRAWS = 1000


class Population:
    """A file, every threshold of the path tried on all of it."""

    def __init__(self, utterances: list[dict], score: str):
        policy = ScoreThreshold(score, 0.0)
        counts = ExitCounts.of(utterances)
        taken = exits_taken(policy, utterances, threshold_path(policy, None, len(counts.exit_layers)))
        moves = np.concatenate([[True], (np.diff(taken, axis=1) != 0).any(axis=0)])
        taken = taken[:, moves]  # thresholds that change nothing only cost time
        self.words = counts.words
        self.extra = np.take_along_axis(counts.errors, taken, axis=1) - counts.errors[:, -1:]
        self.layers = np.array(counts.exit_layers)[taken]
        self.depth = counts.exit_layers[-1]
        self.increase = 100 * self.extra.sum(axis=0) / self.words.sum()

    def outcome(self, chosen: int | None, epsilon: float) -> tuple[bool, bool, float]:
        """Whether the promise is broken, whether anything was granted, and the share of layers saved."""
        if chosen is None:
            return False, False, 0.0
        saved = 1 - self.layers[:, chosen].mean() / self.depth
        return self.increase[chosen] > epsilon + 1e-9, saved > 0, saved


def promised(population: Population, rows: np.ndarray, epsilon: float, test: str) -> int | None:
    """Place on the path up to which the promise is given."""
    excess = population.extra[rows] - epsilon / 100 * population.words[rows, None]
    safe = furthest_safe(excess, delta=DELTA, test=test, bound=BOUND)
    return safe - 1 if safe else None


def naive(population: Population, rows: np.ndarray, epsilon: float, _: str) -> int | None:
    """Place of the cheapest threshold that keeps to epsilon on the draw."""
    excess = population.extra[rows] - epsilon / 100 * population.words[rows, None]
    good = np.flatnonzero(excess.sum(axis=0) <= 0)
    return int(good[population.layers[rows][:, good].sum(axis=0).argmin()]) if len(good) else None


def simulate(population: Population, epsilon: float, choose, test: str) -> dict:
    """Draw, choose, count."""
    rng = np.random.default_rng(0)
    size = len(population.words)
    draws = (rng.integers(size, size=size // 2) for _ in range(NUM_DRAWS))
    outcomes = [population.outcome(choose(population, rows, epsilon, test), epsilon) for rows in draws]
    broken, granted, saved = (round(float(np.mean(column)), 4) for column in zip(*outcomes, strict=True))
    return {"broken": broken, "granted": granted, "layers_saved": saved}


def markdown(found: dict) -> str:
    """A table: per file, epsilon and way to choose, how often broken and granted, and what was saved."""
    lines = ["| scores of | points | chosen by | broken | granted | layers saved |", "|---|---|---|---|---|---|"]
    for file in found["files"]:
        for epsilon, ways in file["points"].items():
            for way, row in ways.items():
                shares = " | ".join(f"{100 * row[key]:.1f} %" for key in ("broken", "granted", "layers_saved"))
                lines.append(f"| {file['file']} | {epsilon} | {way} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="utterances.jsonl, or a subset of its form")
    parser.add_argument("--score", default="entropy", help="exit score of the policy")
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    args = parser.parse_args()
    found = []
    with one_line_errors("promise.py"):
        for path in args.files:
            utterances = read_utterances(path)
            population = Population(utterances, args.score)
            table = {}
            for epsilon in EPSILONS:
                table[str(epsilon)] = {test: simulate(population, epsilon, promised, test) for test in TESTS}
                table[str(epsilon)]["naive"] = simulate(population, epsilon, naive, "")
            found.append({"file": path.name, "num_utterances": len(utterances), "score": args.score, "points": table})
    text = json.dumps({"delta": DELTA, "bound": BOUND, "draws": NUM_DRAWS, "files": found}, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
