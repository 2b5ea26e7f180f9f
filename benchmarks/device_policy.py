# SPDX-License-Identifier: Apache-2.0
"""Measure the time that a calibrated policy saves on a device, from file to text, and compare it with the layers saved.

python benchmarks/device_policy.py EXPORT --manifest MANIFEST [--files 60] [--rounds 5] [--threads 1]

Prints the figures as JSON and writes them to results/device_policy.json. EXPORT is a folder of an exported model
with exits at equal distances, for example the model of the paper's shape of device_speed.py, whose weights are random:
times do not depend on them. MANIFEST lists real recordings. For each wanted mean exit layer, entropy thresholds are
chosen on half of the recordings, so that equally many utterances stop at each exit of a range. On the other half, the
policy, the full encoder and each static exit alternate; the fastest round of each file counts.

* ``time_share``: time of the policy / time of the full encoder, reading the file included.
* ``front_share``: share of the full encoder's time that no layer takes (reading, features, convolutions, text),
  extrapolated from the first and the last static exit to zero layers.
* ``limit``: mean layer / number of layers + front_share + 0.05.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from common import publish

from ee_runtime import EarlyExitRuntime
from ee_runtime.errors import one_line_errors
from ee_runtime.policies import FixedExit, Look, Policy, ScoreThreshold
from speechbrain_ee.corpora.manifest import read_manifest

WANTED = {"first third": (0, 2), "middle": (1, 5), "all exits": (0, 6)}  # ranges of exits


class Record(Policy):
    """Computes the entropy at every exit and stops at none."""

    score_names = ("entropy",)

    def needs_head(self, exit_index, exit_layers):
        """See :meth:`Policy.needs_head`."""
        return True

    def stop(self, look: Look) -> bool:
        """See :meth:`Policy.stop`; keeps the look."""
        self.entropies = [scores["entropy"] for scores in look.scores]
        return look.is_last


def thresholds(entropies: np.ndarray, exits: range) -> list[float | None]:
    """Return a threshold per exit, at which equally many utterances stop at each of the exits.

    Arguments
    ---------
    entropies : np.ndarray
        (utterances, exits).
    exits : range
        Positions of the exits at which to stop.
    """
    found, rest = [None] * entropies.shape[1], entropies
    for index in exits:
        share = 1 / (exits.stop - index)
        found[index] = float(np.quantile(rest[:, index], share)) if share < 1 else 1.0
        rest = rest[rest[:, index] > found[index]]
    return found


def measure(model: EarlyExitRuntime, files: list[tuple], policies: dict[str, Policy], rounds: int) -> tuple[dict, dict]:
    """Return the seconds of each file, and the exit layers, by policy."""
    best = {name: np.full(len(files), np.inf) for name in policies}
    layers = {name: [] for name in policies}
    for row, (file, excerpt) in enumerate(files):
        for number in range(rounds + 1):
            for name in sorted(policies, reverse=bool(number % 2)):
                begin = time.perf_counter()
                result = model.transcribe_file(file, excerpt=excerpt, policy=policies[name])
                seconds = time.perf_counter() - begin
                if number:
                    best[name][row] = min(best[name][row], seconds)
                else:  # a warm-up
                    layers[name].append(result.exit_layer)
    return best, layers


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    model = EarlyExitRuntime(given.export, threads=given.threads)
    files = [(one.audio_filepath, one.excerpt) for one in read_manifest(given.manifest)][: 2 * given.files]
    record, entropies = Record(), []
    for file, excerpt in files[1::2]:
        model.transcribe_file(file, excerpt=excerpt, policy=record)
        entropies.append(record.entropies)
    entropies = np.array(entropies)
    policies = {name: ScoreThreshold("entropy", thresholds(entropies, range(*exits))) for name, exits in WANTED.items()}
    static = {f"layer {layer}": FixedExit(layer) for layer in model.exit_layers}
    seconds, layers = measure(model, files[::2], policies | static, given.rounds)
    depth, first = model.exit_layers[-1], model.exit_layers[0]
    total = {name: float(column.sum()) for name, column in seconds.items()}
    full = total[f"layer {depth}"]
    front = (total[f"layer {first}"] - (full - total[f"layer {first}"]) / (depth - first) * first) / full
    rows = {}
    for name in policies:
        mean = float(np.mean(layers[name]))
        limit = mean / depth + front + 0.05
        rows[name] = {
            "mean_layer": round(mean, 2),
            "layers_taken": {layer: layers[name].count(layer) for layer in model.exit_layers},
            "time_share": round(total[name] / full, 4),
            "limit": round(limit, 4),
        }
    figures = {
        "files": len(files[::2]),
        "rounds": given.rounds,
        "threads": given.threads,
        "precision": model.precision,
        "seconds_at_full_depth": round(full, 3),
        "front_share": round(front, 4),
        "static": {name: round(total[name] / full, 4) for name in static},
        "policies": rows,
    }
    publish("device_policy", figures)


if __name__ == "__main__":
    with one_line_errors("device_policy.py"):
        main()
