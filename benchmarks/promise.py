# SPDX-License-Identifier: Apache-2.0
"""Measure how often the promise of ``calibrate --promise`` is broken, by drawing calibration sets from populations.

python benchmarks/promise.py FILE... [--draws 1000] [--learned-draws 100] [--out FILE]

Prints JSON. Each FILE is an utterances.jsonl, or has a subset of its keys, and is one population; generated populations
are added (``generated_populations``). A calibration set is a sample of utterances with replacement and, if a population
names several speakers, also a sample of speakers with all their utterances.

On every calibration set, the entropy threshold is chosen as ``calibrate --promise`` chooses it (``gamma``). The promise
is broken if the WER of the whole population at this threshold is more than epsilon above that of the last exit. Two
methods that calibrate does not offer are measured for comparison: ``t`` is a t test, and ``naive`` takes the cheapest
threshold whose loss on the calibration set is at most epsilon. ``average`` is the mean loss, in points of WER, of
``calibrate --average``. The learned score is fitted anew on every calibration set.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats
from tqdm import tqdm

from ee_runtime.calibration.defaults import MIN_UTTERANCES
from ee_runtime.errors import one_line_errors
from ee_runtime.policies import ScoreThreshold
from speechbrain_ee.calibration.choose import candidate
from speechbrain_ee.calibration.path import threshold_path
from speechbrain_ee.calibration.risk import (
    PSEUDO_WORDS,
    LossSums,
    furthest_safe,
    p_values,
)
from speechbrain_ee.calibration.sample_size import fewest_speakers
from speechbrain_ee.calibration.targets import Promise
from speechbrain_ee.replay.replay import ExitCounts
from speechbrain_ee.replay.speakers import sum_by_speaker
from speechbrain_ee.replay.unsureness import exits_taken
from speechbrain_ee.replay.utterances import read_utterances

EPSILONS = (0.25, 0.5, 1.0, 2.0)
DELTA = 0.1
NUM_UTTERANCES = (50, 100, 200, 400, 1310)
NUM_SPEAKERS = (10, 20, 40, 88)
LEARNED_SIZES = (400, 1310)
ALLOWED = 0.116  # upper 95 % limit of the share among 1,000 draws if the true share is 10 %


class Population:
    """A population of utterances or speakers, with the errors and the saved layers of every threshold of the path."""

    def __init__(self, name: str, utterances: list[dict], *, by_speaker: bool = False):
        policy = ScoreThreshold("entropy", 0.0)
        counts = ExitCounts.of(utterances)
        taken = exits_taken(policy, utterances, threshold_path(policy, None, len(counts.exit_layers)))
        moves = np.concatenate([[True], (np.diff(taken, axis=1) != 0).any(axis=0)])
        taken = taken[:, moves]  # drops thresholds that change no exit, to save time
        groups = [one.get("speaker") for one in utterances] if by_speaker else None
        extra = np.take_along_axis(counts.errors, taken, axis=1) - counts.errors[:, -1:]
        self.name, self.utterances, self.by_speaker = name, utterances, by_speaker
        self.extra, self.words = (sum_by_speaker(values, groups) for values in (extra, counts.words))
        self.increase = 100 * extra.sum(axis=0) / counts.words.sum()
        self.saved = 1 - np.array(counts.exit_layers)[taken].mean(axis=0) / counts.exit_layers[-1]

    def draw(self, size: int, num_draws: int) -> np.ndarray:
        """Return how often each utterance or speaker occurs in each draw, (draws, rows)."""
        shares = np.full(len(self.words), 1 / len(self.words))
        return np.random.default_rng(0).multinomial(size, shares, size=num_draws).astype(float)

    def outcome(self, steps: np.ndarray, epsilon: float) -> dict:
        """Return the shares of broken and granted promises and of layers saved, given the safe steps of every draw."""
        increase, saved = (np.append(0.0, values)[steps] for values in (self.increase, self.saved))
        found = {"broken": increase > epsilon + 1e-9, "granted": saved > 0, "layers_saved": saved}
        return {name: round(float(values.mean()), 4) for name, values in found.items()}


def t_p_values(sums: LossSums, epsilon: float) -> np.ndarray:
    """Return p-values of a one-sided t test that the mean excess is above 0, (draws, path)."""
    share = epsilon / 100
    mean = (sums.d - share * sums.n) / sums.size
    squares = sums.d2 - 2 * share * sums.dn + share**2 * sums.n2
    variance = np.maximum(squares / sums.size - mean**2, 1e-12) * sums.size / (sums.size - 1)
    return stats.t.cdf(mean / np.sqrt(variance / sums.size), sums.size - 1)


def steps_on_average(population: Population, counts: np.ndarray, epsilon: float) -> np.ndarray:
    """Return the steps of the path that ``calibrate --average`` takes, for draws of utterances."""
    some = population.extra.any(axis=1)  # the excess of the others is constant along the path
    excess = population.extra - epsilon / 100 * population.words[:, None]
    clipped = np.clip(excess[some], -PSEUDO_WORDS, PSEUDO_WORDS)
    risk = counts[:, some] @ np.maximum.accumulate(clipped, axis=1)
    risk += counts[:, ~some] @ np.clip(excess[~some, :1], -PSEUDO_WORDS, PSEUDO_WORDS)
    return (risk + PSEUDO_WORDS <= 0).sum(axis=1)


def simulate(population: Population, size: int, num_draws: int) -> dict:
    """Return the outcome by epsilon and method for sets of one size; empty if calibrate refuses this size."""
    if size < (fewest_speakers(DELTA) if population.by_speaker else MIN_UTTERANCES):
        return {}
    counts = population.draw(size, num_draws)
    sums = LossSums.of(population.extra, population.words, counts)
    found = {}
    for epsilon in EPSILONS:
        good = sums.d <= epsilon / 100 * sums.n
        p = p_values(sums, epsilon=epsilon, by_speaker=population.by_speaker)
        steps = {
            "gamma": furthest_safe(p, DELTA),
            "t": furthest_safe(t_p_values(sums, epsilon), DELTA),
            "naive": np.where(good.any(axis=1), good.shape[1] - good[:, ::-1].argmax(axis=1), 0),
        }
        found[str(epsilon)] = {way: population.outcome(of_draws, epsilon) for way, of_draws in steps.items()}
        if not population.by_speaker:
            increase = np.append(0.0, population.increase)[steps_on_average(population, counts, epsilon)]
            found[str(epsilon)]["average"] = {"mean_increase": round(float(increase.mean()), 4)}
    return found


def simulate_learned(population: Population, size: int, num_draws: int) -> dict:
    """Return the outcome by epsilon with a learned score that is fitted on one half of every draw."""
    rng, num_exits = np.random.default_rng(0), len(population.utterances[0]["exits"])
    counts = ExitCounts.of(population.utterances)
    full, rows = counts.errors[:, -1].sum(), np.arange(len(counts.words))
    outcomes: dict[float, list] = {epsilon: [] for epsilon in EPSILONS}
    for _ in tqdm(range(num_draws), desc=f"{population.name}: learned, {size}", leave=False):
        drawn = [population.utterances[row] for row in rng.integers(len(rows), size=size)]
        drawn = [one | {"id": str(place), "speaker": None} for place, one in enumerate(drawn)]
        policy, rest, path = candidate("learned", drawn, seed=0)
        found = [Promise(epsilon, DELTA).choose(policy, rest, path)[0] for epsilon in EPSILONS]
        thresholds = [getattr(one, "threshold", -np.inf) for one in found]
        taken = exits_taken(policy, population.utterances, thresholds)
        for epsilon, exits in zip(EPSILONS, taken.T, strict=True):
            increase = 100 * (counts.errors[rows, exits].sum() - full) / counts.words.sum()
            saved = 1 - np.array(counts.exit_layers)[exits].mean() / counts.exit_layers[-1]
            outcomes[epsilon].append((increase > epsilon + 1e-9, (exits < num_exits - 1).any(), saved))
    names = ("broken", "granted", "layers_saved")
    return {
        str(epsilon): {"gamma": dict(zip(names, np.mean(one, axis=0).round(4).tolist(), strict=True))}
        for epsilon, one in outcomes.items()
    }


def generated_utterances(
    losses: np.ndarray, rng: np.random.Generator, speakers: np.ndarray | None = None
) -> list[dict]:
    """Return utterances of 10 words on average with two exits; ``losses`` are the errors at the first exit."""
    words = rng.geometric(0.1, size=len(losses))
    entropies = 10 ** rng.uniform(-3, 0, size=len(losses))  # independent of the losses
    return [
        {
            "id": str(row),
            "speaker": None if speakers is None else str(speakers[row]),
            "num_words": int(words[row]),
            "exits": [
                {"layer": 6, "errors": {"S": int(losses[row]), "D": 0, "I": 0}, "scores": {"entropy": entropies[row]}},
                {"layer": 12, "errors": {"S": 0, "D": 0, "I": 0}, "scores": {"entropy": entropies[row]}},
            ],
        }
        for row in range(len(losses))
    ]


def generated_populations(num_utterances: int = 4000, num_speakers: int = 400) -> list[Population]:
    """Return populations with rare losses of few and of many words, and with losses of one speaker in ten."""
    rng = np.random.default_rng(0)
    found = []
    for loss in (1, 2, 3, 4, 5, 6, 8):
        for share in (0.005, 0.01, 0.02, 0.05):
            losses = np.zeros(num_utterances, dtype=int)
            losses[: round(share * num_utterances)] = loss
            name = f"{loss} words in {100 * share:g} % of the utterances"
            found.append(Population(name, generated_utterances(losses, rng)))
    per_speaker = 3 + rng.poisson(12, size=num_speakers)
    speakers = np.repeat(np.arange(num_speakers), per_speaker)
    is_bad = speakers % 10 == 0
    for loss, share in ((1, 1.0), (1, 0.5), (2, 0.5), (5, 0.25), (5, 0.5)):
        losses = np.where(is_bad & (rng.random(len(speakers)) < share), loss, 0)
        name = f"one speaker in ten loses {loss} words in {100 * share:g} % of the utterances"
        found.append(Population(name, generated_utterances(losses, rng, speakers), by_speaker=True))
    for loss, share in ((2, 0.05), (5, 0.02), (5, 0.05), (8, 0.05)):
        losses = np.where(rng.random(len(speakers)) < share, loss, 0)
        name = f"all speakers lose {loss} words in {100 * share:g} % of the utterances"
        found.append(Population(name, generated_utterances(losses, rng, speakers), by_speaker=True))
    return found


def populations_of(path: Path) -> list[Population]:
    """Return the population of a file's utterances and, if it names several speakers, that of its speakers."""
    utterances = read_utterances(path)
    found = [Population(path.name, utterances)]
    if len({one.get("speaker") for one in utterances} - {None}) > 1:
        found.append(Population(path.name, utterances, by_speaker=True))
    return found


def judge(population: Population, num_draws: int, learned_draws: int = 0) -> dict:
    """Return the outcomes of all calibration set sizes for one population."""
    sizes = NUM_SPEAKERS if population.by_speaker else NUM_UTTERANCES
    unit = "speakers" if population.by_speaker else "utterances"
    found = {"population": population.name, "drawn": unit, "of": len(population.words)}
    found["sizes"] = {str(size): simulate(population, size, num_draws) for size in sizes}
    if learned_draws and not population.by_speaker:
        found["learned"] = {str(size): simulate_learned(population, size, learned_draws) for size in LEARNED_SIZES}
    return found


def markdown(found: dict) -> str:
    """Return tables: the outcomes per file, and the highest share of broken promises over all generated populations."""
    lines = []
    for one in found["files"]:
        lines += [f"\n{one['population']}. Each cell: % of promises broken / % granted / % of layers not run\n"]
        for score, sizes in (("entropy", one["sizes"]), ("learned", one.get("learned", {}))):
            columns = {size: points for size, points in sizes.items() if points}
            if not columns:
                continue
            heads = [f"{size} {one['drawn']}" for size in columns]
            lines += ["| score | epsilon, points | method | " + " | ".join(heads) + " |"]
            lines += ["|---" * (len(columns) + 3) + "|"]
            for epsilon in map(str, EPSILONS):
                for way in [name for name in next(iter(columns.values()))[epsilon] if name != "average"]:
                    cells = [_cell(points[epsilon][way]) for points in columns.values()]
                    lines.append(f"| {score} | {epsilon} | {way} | " + " | ".join(cells) + " |")
            lines.append("")
    for unit in ("utterances", "speakers"):
        made = [one for one in found["made"] if one["drawn"] == unit]
        sizes = [size for size, points in made[0]["sizes"].items() if points]
        lines += [
            f"\n{len(made)} generated populations. Each cell: % of promises broken, the highest over the populations\n"
        ]
        heads = [f"{size} {unit}" for size in sizes]
        lines += ["| epsilon, points | method | " + " | ".join(heads) + " |", "|---" * (len(sizes) + 2) + "|"]
        for epsilon in map(str, EPSILONS):
            for way in ("gamma", "t", "naive"):
                most = [max(one["sizes"][size][epsilon][way]["broken"] for one in made) for size in sizes]
                lines.append(f"| {epsilon} | {way} | " + " | ".join(f"{100 * value:.1f}" for value in most) + " |")
        lines.append("")
    return "\n".join(lines).strip()


def headline(found: dict) -> str:
    """Return the README's line of benefit: 0.5 points promised on the first population, the largest calibration set."""
    population, points = found["files"][0], "0.5"
    size, by_points = list(population["sizes"].items())[-1]
    row = by_points[points]["gamma"]
    return (
        "**Benefit**: entropy thresholds were calibrated on the wav2vec2-base scores that the paper's authors "
        "published (LibriSpeech test-clean).\nThe target was a WER at most "
        f"{points} points above that of full depth, with probability {1 - found['delta']:g}. On average, "
        f"**{100 * row['layers_saved']:.1f} % of the encoder layers**\nwere not run. Of {found['draws']:,} thresholds, "
        f"each chosen on a random set of {int(size):,} utterances, {100 * row['broken']:.1f} % raised WER by more "
        f"than\n{points} points ([promise](docs/results/promise.md))."
    )


def _cell(row: dict) -> str:
    return f"{100 * row['broken']:.1f} / {100 * row['granted']:.0f} / {100 * row['layers_saved']:.1f}"


def main() -> None:
    """Simulate all populations and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="utterances.jsonl, or a file with a subset of its keys")
    parser.add_argument("--draws", type=int, default=1000, help="calibration sets per size and population")
    parser.add_argument(
        "--learned-draws", type=int, default=100, help="calibration sets with the learned score, which are slower"
    )
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    with one_line_errors("promise.py"):
        files = [one for path in args.files for one in populations_of(path)]
        generated = generated_populations()
        found = {"delta": DELTA, "draws": args.draws, "learned_draws": args.learned_draws, "allowed": ALLOWED}
        found["files"] = [judge(one, args.draws, args.learned_draws) for one in tqdm(files, leave=False)]
        found["made"] = [judge(one, args.draws) for one in tqdm(generated, desc="generated", leave=False)]
        text = json.dumps(found, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
