# SPDX-License-Identifier: Apache-2.0
"""Measure how often promises about CER are broken, for three choices of the pseudo-loss.

python benchmarks/promise_characters.py [--draws 400] [--out FILE]

Prints JSON. As ``benchmarks/promise.py`` does with words, calibration sets are drawn from generated populations, and a
threshold is chosen on each. The populations have utterances of words (10 on average, of 2 to 9 letters, with spaces) or
of characters without spaces (14 on average, as in Mandarin). In 0.5 to 10 % of the utterances, characters are lost: 1
to 12, those of 1 to 8 words, or all. The pseudo-loss is 8 characters, 48 characters, or that of ``calibrate``: 48, but
not more than an utterance has (:func:`speechbrain_ee.calibration.risk.unseen_loss`).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.promise import DELTA, EPSILONS, NUM_UTTERANCES
from ee_runtime.errors import one_line_errors
from ee_runtime.policies import ScoreThreshold
from ee_runtime.text.error_units import CHAR
from speechbrain_ee.calibration.path import threshold_path
from speechbrain_ee.calibration.risk import LossSums, furthest_safe, p_values, unseen_loss

SHARES = (0.005, 0.01, 0.02, 0.05, 0.1)
WAYS = {"8": "8 characters", "48": "48 characters", "chosen": "48 characters, at most an utterance"}


def populations(size: int = 4000) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Return lengths and losses of the utterances of each population, in characters, by kind of text."""
    rng = np.random.default_rng(0)
    found: dict[str, list] = {"words": [], "no spaces": []}

    def letters(num_words: int) -> int:
        return int(rng.integers(2, 10, size=num_words).sum()) + num_words - 1

    def add(kind: str, lengths: np.ndarray, lost: np.ndarray) -> None:
        found[kind].append((lengths, np.append(lost, np.zeros(size - len(lost), dtype=int))))

    for share in SHARES:
        number = round(share * size)
        for words in (1, 2, 3, 4, 5, 6, 8):
            lengths = np.array([letters(one) for one in rng.geometric(0.1, size=size)])
            add("words", lengths, np.array([letters(words) for _ in range(number)]))
        for characters in (1, 2, 4, 8, 12):
            lengths = 3 + rng.poisson(11, size=size)
            add("no spaces", lengths, np.minimum(characters, lengths[:number]))
        for lengths in (3 + rng.poisson(11, size=size), rng.geometric(1 / 14, size=size)):
            add("no spaces", lengths, lengths[:number])  # all characters
        some = np.where(np.arange(number) < number // 5, lengths[:number], 1)  # all of some, one of the others
        add("no spaces", lengths, some)
    return found


def broken(lengths: np.ndarray, losses: np.ndarray, num_draws: int) -> dict[str, dict]:
    """Return the shares of broken promises and the granted ones by size, epsilon and pseudo-loss."""
    rng = np.random.default_rng(0)
    entropies = 10 ** rng.uniform(-3, 0, size=len(losses))  # independent of the losses
    path = threshold_path(ScoreThreshold("entropy", 0.0), None, 2)
    extra = np.where(entropies[:, None] <= np.array(path)[None], losses[:, None], 0)
    increase = np.append(0.0, 100 * extra.sum(axis=0) / lengths.sum())
    found: dict[str, dict] = {}
    for size in NUM_UTTERANCES:
        shares = np.full(len(lengths), 1 / len(lengths))
        counts = np.random.default_rng(0).multinomial(size, shares, size=num_draws).astype(float)
        sums = LossSums.of(extra, lengths, counts)
        drawn = [unseen_loss(np.repeat(lengths, one.astype(int)), CHAR) for one in counts]
        unseen = {"8": 8.0, "48": 48.0, "chosen": np.array(drawn)[:, None]}
        for epsilon in EPSILONS:
            steps = {
                way: furthest_safe(p_values(sums, epsilon=epsilon, unseen=one), DELTA) for way, one in unseen.items()
            }
            found.setdefault(str(size), {})[str(epsilon)] = {
                way: [round(float((increase[one] > epsilon + 1e-9).mean()), 4), round(float((one > 1).mean()), 4)]
                for way, one in steps.items()
            }
    return found


def summary(made: list[dict]) -> dict:
    """Return the highest share of broken promises, and the mean share of granted ones, over some populations."""
    found: dict = {"populations": len(made)}
    for way in WAYS:
        found[way] = {}
        for size in map(str, NUM_UTTERANCES):
            most = max(one[size][str(epsilon)][way][0] for one in made for epsilon in EPSILONS)
            granted = sum(one[size]["1.0"][way][1] for one in made) / len(made)
            found[way][size] = {"broken": most, "granted": round(granted, 4)}
    return found


def markdown(found: dict) -> str:
    """Return a table of the summaries."""
    lines = []
    for kind, made in found["made"].items():
        lines += [
            f"\n{made['populations']} generated populations, texts with {kind}. Each cell: % of promises broken, the "
            "highest over the populations and over 0.25 to 2 points / % granted at 1 point, mean over the populations\n"
        ]
        lines += ["| pseudo-loss | " + " | ".join(f"{size} utterances" for size in NUM_UTTERANCES) + " |"]
        lines += ["|---" * (len(NUM_UTTERANCES) + 1) + "|"]
        for way, name in WAYS.items():
            cells = [f"{100 * one['broken']:.1f} / {100 * one['granted']:.0f}" for one in made[way].values()]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).strip()


def main() -> None:
    """Simulate all populations and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=400, help="calibration sets per size and population")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    with one_line_errors("promise_characters.py"):
        made = {
            kind: summary([broken(*one, args.draws) for one in tqdm(some, desc=kind, leave=False)])
            for kind, some in populations().items()
        }
        text = json.dumps({"delta": DELTA, "draws": args.draws, "made": made}, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
