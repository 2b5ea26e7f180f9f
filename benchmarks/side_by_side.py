# SPDX-License-Identifier: Apache-2.0
"""Compare the exits of several evaluated runs: WER with intervals and MACs, as a table and a plot per set.

python benchmarks/side_by_side.py ctc=results/real/exits aed=results/real_aed/exits --out results/aed_and_ctc \
    [--sets dev]

Writes OUT.json and OUT-<set>.png and prints Markdown tables. A run is given as NAME=FOLDER, with the sets in
FOLDER/eval, or as NAME=FILE.json#RUN, a run in a file written by this script, twins.py or training_strategies.py. If an
attention decoder produces the text, the WER of the CTC head of the same exit follows in parentheses.
"""

import argparse
import json
from pathlib import Path

from ee_runtime.errors import one_line_errors
from ee_runtime.text.error_units import WORD, unit_of


def named_runs(given: list[str]) -> dict[str, str]:
    """Parse NAME=PLACE arguments; returns the places of evaluated runs by name."""
    runs = {}
    for one in given:
        name, _, place = one.partition("=")
        if not (name and place and read(place)):
            raise ValueError(
                f"{one!r}: give NAME=FOLDER, where FOLDER has eval/<set>/exits.json, or NAME=FILE.json#RUN"
            )
        runs[name] = place
    return runs


def read(place: str | Path, *, last_only: bool = False) -> dict[str, list[dict]]:
    """Return layer, WER with its interval and MACs of every exit, or of the last one only, by set."""
    file, is_file, run = str(place).partition("#")
    if is_file:
        results = json.loads(Path(file).read_text("utf-8")) if Path(file).exists() else {"runs": {}}
        return results["runs"].get(run, {}).get("sets", {})
    found = {}
    for path in sorted(Path(place).glob("eval/*/exits.json")):
        keys = ("layer", "wer", "wer_ci95", "wer_ctc", "macs_per_s")
        contents = json.loads(path.read_text("utf-8"))
        check_counts_words(path, contents)
        exits = contents["exits"][-1 if last_only else 0 :]
        found[path.parent.name] = [{key: one[key] for key in keys if key in one} for one in exits]
    return found


def check_counts_words(path: Path, contents: dict) -> None:
    """Raise ValueError if an exits.json is of a model whose errors are counted in characters: tables here have WER."""
    if unit_of(contents) is not WORD:
        raise ValueError(f"{path} counts characters, and tables of WER words: read its tables with evaluate")


def markdown(results: dict) -> str:
    """Return a table per set: a row per exit layer, a column per run."""
    names = list(results["runs"])
    lines = []
    for test_set in sorted({one for run in results["runs"].values() for one in run["sets"]}):
        lines += [f"\n{test_set}\n", "| layer | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
        lines.append("|---" * (len(names) + 1) + "|")
        columns = [{one["layer"]: one for one in results["runs"][name]["sets"].get(test_set, [])} for name in names]
        for layer in sorted(set().union(*columns)):
            lines.append(f"| {layer} | " + " | ".join(_cell(column.get(layer)) for column in columns) + " |")
    return "\n".join(lines)


def publish(results: dict, out: Path) -> None:
    """Write OUT.json and a plot per set, and print the tables."""
    out.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{out}.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    for test_set in sorted({one for run in results["runs"].values() for one in run["sets"]}):
        plot(results, test_set, Path(f"{out}-{test_set}.png"))
    print(markdown(results))


def _cell(one: dict | None) -> str:
    if one is None:
        return ""
    low, high = one["wer_ci95"]
    ctc = f" ({one['wer_ctc']:.1f})" if "wer_ctc" in one else ""
    return f"{one['wer']:.1f} [{low:.1f}, {high:.1f}]{ctc} {one['macs_per_s'] / 1e6:.0f}M"


def plot(results: dict, test_set: str, path: Path) -> None:
    """Plot WER over MACs, a line per run; a run with one exit is a point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, run in results["runs"].items():
        exits = run["sets"].get(test_set, [])
        millions = [one["macs_per_s"] / 1e6 for one in exits]
        axes.plot(millions, [one["wer"] for one in exits], "o-", label=name.replace("_", " "))
    axes.set(xlabel="million MACs per second of audio", ylabel="WER %", title=test_set, xscale="log")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Read the runs and publish their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "runs", nargs="+", metavar="NAME=PLACE", help="run folders, or runs in a JSON file (FILE.json#RUN)"
    )
    parser.add_argument("--out", type=Path, required=True, help="path prefix of the files to write")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="sets to compare; default: all")
    args = parser.parse_args()
    results = {name: read(place) for name, place in named_runs(args.runs).items()}
    known = {one for sets in results.values() for one in sets}
    if missing := sorted(set(args.sets or []) - known):
        parser.error(f"--sets {' '.join(missing)}: the runs have {' '.join(sorted(known))}")
    chosen = known if args.sets is None else set(args.sets)
    runs = {name: {"sets": {one: sets[one] for one in sets if one in chosen}} for name, sets in results.items()}
    publish({"runs": runs}, args.out)


if __name__ == "__main__":
    with one_line_errors("side_by_side.py"):
        main()
