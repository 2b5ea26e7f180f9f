# SPDX-License-Identifier: Apache-2.0
"""Train exits of one pretrained encoder with several strategies, and compare their WER and MACs.

python benchmarks/training_strategies.py hparams/whisper_ee.yaml --strategies joint last --out results/whisper \
    [--lm lm.arpa] [--jobs 2] [--compare scratch=results/real/exits] -- --source FOLDER --number_of_epochs 10

Writes OUT/strategies.json and OUT/strategies-<set>.png and prints a Markdown table per set. The options after ``--``
are passed to train.py for every strategy. Run the same command again to resume. The strategies are:

* ``joint``: one loss over all exits (the yaml's default); ``distilled`` adds distillation from the last exit
* ``last``: the last exit only
* ``two_stages``: the heads of the earlier exits on the frozen encoder that ``last`` has trained
* ``retrofit``: the heads on the frozen pretrained encoder
* ``shorter``, ``shorter_last``, ``shorter_retrofit``: as ``joint``, ``last`` and ``retrofit``, at half the frame rate

With ``--lm``, every set is also decoded with a lexicon beam and each language model, and named <set>-<model>.
``--compare`` adds other runs, in the format of side_by_side.py.
"""

import argparse
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ee_runtime.errors import one_line_errors


def strategies(out: Path, num_exits: int) -> dict[str, list[str]]:
    """Return the options of each strategy; a strategy that starts from another one comes after it."""
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
    """Decode every set with a language model, unless this is done."""
    for manifest in manifests:
        out = folder / "eval" / f"{Path(manifest).stem}-{lm.stem}"
        if not (out / "exits.json").exists():
            words = ["evaluate", str(folder), "--manifest", manifest, "--decoding", "lexicon", "--lm", str(lm)]
            words += ["--lm-weight", str(lm_weight), "--out", str(out)]
            subprocess.run([sys.executable, "-m", "speechbrain_ee.cli", *words], check=True)


def main() -> None:
    """Train with all strategies, decode, and publish the figures."""
    from side_by_side import named_runs, publish, read
    from twins import train, without

    from speechbrain_ee.training.command_line import parse_arguments
    from speechbrain_ee.training.hparams import load_hparams

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hparams", help="yaml of a pretrained encoder")
    parser.add_argument(
        "--strategies", nargs="+", default=["joint", "last", "two_stages", "retrofit"], help="strategies to train with"
    )
    parser.add_argument("--out", type=Path, default=Path("results/strategies"), help="folder to write")
    parser.add_argument("--jobs", type=int, default=1, help="models to train at a time")
    parser.add_argument("--lm", type=Path, nargs="*", default=[], help="ARPA files of word language models")
    parser.add_argument("--lm-weight", type=float, default=0.5, help="weight of each language model")
    parser.add_argument("--compare", nargs="*", default=[], metavar="NAME=PLACE", help="other runs to add")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, overrides = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
    compared = named_runs(args.compare)  # before training, so that errors are found early
    args.out.mkdir(parents=True, exist_ok=True)
    hparams = load_hparams(*parse_arguments([args.hparams, *overrides])[::2])
    options = strategies(args.out, len(hparams["exit_layers"]))
    if unknown := set(args.strategies) - set(options):
        parser.error(f"--strategies {' '.join(sorted(unknown))}: give some of {' '.join(options)}")
    manifests = [hparams["valid_manifest"], *hparams["test_manifests"]]

    with ThreadPoolExecutor(args.jobs) as pool:
        jobs: dict[str, Future] = {}

        def run(name: str) -> float:
            if name == "two_stages":
                jobs["last"].result()
            own = options[name]
            return train(args.hparams, args.out / name, without(overrides, own[::2]) + own, args.jobs)

        for name in sorted(
            {*args.strategies, *(["last"] if "two_stages" in args.strategies else [])}, key=list(options).index
        ):
            jobs[name] = pool.submit(run, name)
    results = {"command": " ".join(sys.argv), "runs": {}}
    places = {name: args.out / name for name in jobs} | compared
    for name, place in places.items():
        for lm in args.lm if Path(place).is_dir() else []:
            evaluate_with(lm, args.lm_weight, Path(place), manifests)
        results["runs"][name] = {"sets": read(place, last_only=name in jobs and name.endswith("last"))}
        if name in jobs:
            results["runs"][name]["minutes"] = round(jobs[name].result(), 1)
    publish(results, args.out / "strategies")


if __name__ == "__main__":
    with one_line_errors("training_strategies.py"):
        main()
