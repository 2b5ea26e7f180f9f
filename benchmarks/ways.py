# SPDX-License-Identifier: Apache-2.0
"""Train one pretrained encoder in several ways, and lay the exits side by side: WER greedy and with a KenLM, and MACs.

python benchmarks/ways.py hparams/whisper_ee.yaml --ways joint last two_stages retrofit --out results/whisper \
    [--lm lm.arpa] [--jobs 2] [--compare scratch=results/real/exits] -- --source FOLDER --number_of_epochs 10

What follows ``--`` goes to train.py for every way alike. ``last`` trains the last exit alone, ``two_stages`` the heads
on the body that ``last`` left, ``retrofit`` the heads on the pretrained body; ``shorter`` is ``joint`` on half the
frames and ``shorter_last`` its last exit alone. The same command again resumes. With ``--lm`` every set is decoded a
second time, with a beam and that language model. ``--compare`` puts the exits of other run folders beside. Writes
OUT/ways.json and OUT/<set>.png, and prints Markdown tables.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

LAST_ONLY = "--exit_weights"


def ways(out: Path, num_exits: int) -> dict[str, list[str]]:
    """Options of each way; a way that begins with another's weights comes after it."""
    last = [LAST_ONLY, str([0] * (num_exits - 1) + [1])]
    heads_alone = ["--freeze", "encoder", "--state_cache", str(out / "states")]
    first_stage = out / "last"
    return {
        "joint": [],
        "last": last,
        "retrofit": heads_alone,
        "distilled": ["--distillation", "0.5"],
        "shorter": ["--downsample", "2"],
        "shorter_last": ["--downsample", "2", *last],
        "two_stages": [
            *heads_alone,
            *("--init_from", str(first_stage), "--tokenizer_file", str(first_stage / "save" / "tokenizer.model")),
            *(LAST_ONLY, str([1] * (num_exits - 1) + [0])),
        ],
    }


def evaluate_with(lm: Path, folder: Path, manifests: list[str]) -> None:
    """Decode every set with a beam and a language model, unless it has been done."""
    for manifest in manifests:
        if not (folder / "eval" / f"{Path(manifest).stem}-beam-lm" / "exits.json").exists():
            words = ["evaluate", str(folder), "--manifest", manifest, "--decoding", "beam", "--lm", str(lm)]
            subprocess.run([sys.executable, "-m", "speechbrain_ee.cli", *words], check=True)


def read(folder: Path) -> dict[str, list[dict]]:
    """Layer, WER with its interval and MACs of every exit, by set."""
    found = {}
    for path in sorted(folder.glob("eval/*/exits.json")):
        keys = ("layer", "wer", "wer_ci95", "macs_per_s")
        found[path.parent.name] = [{key: one[key] for key in keys} for one in json.loads(path.read_text())["exits"]]
    return found


def markdown(results: dict) -> str:
    """A table per set: a row per exit layer, a column per way."""
    names = list(results["ways"])
    lines = []
    for test_set in sorted({one for way in results["ways"].values() for one in way["sets"]}):
        lines += [f"\n{test_set}\n", "| layer | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
        lines.append("|---" * (len(names) + 1) + "|")
        columns = [{one["layer"]: one for one in results["ways"][name]["sets"].get(test_set, [])} for name in names]
        for layer in sorted(set().union(*columns)):
            lines.append(f"| {layer} | " + " | ".join(_cell(column.get(layer)) for column in columns) + " |")
    return "\n".join(lines)


def _cell(one: dict | None) -> str:
    if one is None:
        return ""
    low, high = one["wer_ci95"]
    return f"{one['wer']:.1f} [{low:.1f}, {high:.1f}] {one['macs_per_s'] / 1e6:.0f}M"


def plot(results: dict, test_set: str, path: Path) -> None:
    """WER against MACs, a line per way; what trains its last exit alone is a point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, way in results["ways"].items():
        exits = way["sets"].get(test_set, [])
        axes.plot([one["macs_per_s"] / 1e6 for one in exits], [one["wer"] for one in exits], "o-", label=name)
    axes.set(xlabel="million MACs per second of audio", ylabel="WER %", title=test_set, xscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, decode, collect, draw."""
    from twins import train

    from speechbrain_ee.hparams import load_hparams, parse_arguments

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hparams", help="yaml of a pretrained family")
    parser.add_argument("--ways", nargs="+", default=["joint", "last", "two_stages", "retrofit"])
    parser.add_argument("--out", type=Path, default=Path("results/ways"))
    parser.add_argument("--jobs", type=int, default=1, help="models to train at a time")
    parser.add_argument("--lm", type=Path, help="KenLM over words")
    parser.add_argument("--compare", nargs="*", default=[], metavar="NAME=RUN", help="other run folders")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, overrides = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
    args.out.mkdir(parents=True, exist_ok=True)
    hparams = load_hparams(*parse_arguments([args.hparams, *overrides])[::2])
    options = ways(args.out, len(hparams["exit_layers"]))
    if unknown := set(args.ways) - set(options):
        parser.error(f"--ways {' '.join(sorted(unknown))}: give some of {' '.join(options)}")
    manifests = [hparams["valid_manifest"], *hparams["test_manifests"]]

    with ThreadPoolExecutor(args.jobs) as pool:
        jobs: dict[str, Future] = {}

        def run(name: str) -> float:
            if name == "two_stages":
                jobs["last"].result()
            return train(args.hparams, args.out / name, overrides + options[name], args.jobs)

        for name in sorted({*args.ways, *(["last"] if "two_stages" in args.ways else [])}, key=list(options).index):
            jobs[name] = pool.submit(run, name)
    results = {"command": " ".join(sys.argv), "ways": {}}
    folders = {name: args.out / name for name in jobs} | dict(one.split("=", 1) for one in args.compare)
    for name, folder in folders.items():
        if args.lm is not None:
            evaluate_with(args.lm, Path(folder), manifests)
        sets = read(Path(folder))
        if name.endswith("last"):  # its other heads were not trained
            sets = {test_set: exits[-1:] for test_set, exits in sets.items()}
        results["ways"][name] = {"sets": sets}
        if name in jobs:
            results["ways"][name]["minutes"] = round(jobs[name].result(), 1)
    (args.out / "ways.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    for test_set in sorted({one for way in results["ways"].values() for one in way["sets"]}):
        plot(results, test_set, args.out / f"{test_set}.png")
    print(markdown(results))


if __name__ == "__main__":
    main()
