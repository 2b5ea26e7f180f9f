# SPDX-License-Identifier: Apache-2.0
"""Train one pretrained encoder in several ways, and lay the exits side by side: WER greedy and with a KenLM, and MACs.

python benchmarks/ways.py hparams/whisper_ee.yaml --ways joint last two_stages retrofit --out results/whisper \
    [--lm lm.arpa] [--jobs 2] [--compare scratch=results/real/exits] -- --source FOLDER --number_of_epochs 10

What follows ``--`` goes to train.py for every way alike, but for the options that make the way. ``last`` trains the
last exit alone, ``two_stages`` the heads on the body that ``last`` left, ``retrofit`` the heads on the pretrained body;
``shorter``, ``shorter_last`` and ``shorter_retrofit`` are those of half the frames. The same command again resumes.
With ``--lm`` every set is decoded again over the words of each language model, as <set>-<model>. ``--compare`` puts
the exits of other runs beside, named as side_by_side.py takes them. Writes OUT/ways.json and OUT/ways-<set>.png, and
prints Markdown tables.
"""

import argparse
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from speechbrain_ee.errors import one_line_errors


def ways(out: Path, num_exits: int) -> dict[str, list[str]]:
    """Options of each way; a way that begins with another's weights comes after it."""
    last = ["--exit_weights", str([0] * (num_exits - 1) + [1])]
    heads_alone = ["--freeze", "encoder", "--state_cache", str(out / "states")]
    first_stage = out / "last"
    return {
        "joint": [],
        "last": last,
        "retrofit": heads_alone,
        "distilled": ["--distillation", "0.5"],
        "shorter": ["--downsample", "2"],
        "shorter_last": ["--downsample", "2", *last],
        "shorter_retrofit": ["--downsample", "2", *heads_alone],
        "two_stages": [
            *heads_alone,
            *("--init_from", str(first_stage), "--tokenizer_file", str(first_stage / "tokenizer.model")),
            *("--exit_weights", str([1] * (num_exits - 1) + [0]), "--select", "mean"),
        ],
    }


def evaluate_with(lm: Path, lm_weight: float, folder: Path, manifests: list[str]) -> None:
    """Decode every set over the words of a language model, unless it has been done."""
    for manifest in manifests:
        out = folder / "eval" / f"{Path(manifest).stem}-{lm.stem}"
        if not (out / "exits.json").exists():
            words = ["evaluate", str(folder), "--manifest", manifest, "--decoding", "lexicon", "--lm", str(lm)]
            words += ["--lm-weight", str(lm_weight), "--out", str(out)]
            subprocess.run([sys.executable, "-m", "speechbrain_ee.cli", *words], check=True)


def main() -> None:
    """Train, decode, collect, draw."""
    from side_by_side import named_runs, publish, read
    from twins import train, without

    from speechbrain_ee.training.command_line import parse_arguments
    from speechbrain_ee.training.hparams import load_hparams

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hparams", help="yaml of a pretrained family")
    parser.add_argument("--ways", nargs="+", default=["joint", "last", "two_stages", "retrofit"])
    parser.add_argument("--out", type=Path, default=Path("results/ways"))
    parser.add_argument("--jobs", type=int, default=1, help="models to train at a time")
    parser.add_argument("--lm", type=Path, nargs="*", default=[], help="ARPA files over words")
    parser.add_argument("--lm-weight", type=float, default=0.5, help="of each")
    parser.add_argument("--compare", nargs="*", default=[], metavar="NAME=PLACE", help="other runs")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, overrides = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
    compared = named_runs(args.compare)  # before hours are spent
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
            own = options[name]
            return train(args.hparams, args.out / name, without(overrides, own[::2]) + own, args.jobs)

        for name in sorted({*args.ways, *(["last"] if "two_stages" in args.ways else [])}, key=list(options).index):
            jobs[name] = pool.submit(run, name)
    results = {"command": " ".join(sys.argv), "runs": {}}
    places = {name: args.out / name for name in jobs} | compared
    for name, place in places.items():
        for lm in args.lm if Path(place).is_dir() else []:
            evaluate_with(lm, args.lm_weight, Path(place), manifests)
        results["runs"][name] = {"sets": read(place, last_only=name in jobs and name.endswith("last"))}
        if name in jobs:
            results["runs"][name]["minutes"] = round(jobs[name].result(), 1)
    publish(results, args.out / "ways")


if __name__ == "__main__":
    with one_line_errors("ways.py"):
        main()
