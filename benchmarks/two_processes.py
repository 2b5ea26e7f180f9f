# SPDX-License-Identifier: Apache-2.0
"""Train the demo's model on one process and on two, and compare the curves.

python benchmarks/two_processes.py data/synthetic --out results/two_processes

Prints a Markdown table; writes results/two_processes.json beside this script and docs/results/processes/curves.png. The
models are trained on a quarter of DATA's training set, on the CPU. Run the same command again to resume.

* ``one`` and ``two``: one process, and two processes with half the number of utterances in a batch, for each seed. The
  utterances of every optimizer step are the same.
* ``one_exact`` and ``two_exact``: the same for an epoch without SpecAugment, whose random numbers differ between
  processes. The losses of every step should be equal up to rounding.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (1, 2)
EPOCHS, EXACT_EPOCHS, WARMUP_STEPS = 4, 1, 100
SHARE = 4  # one of so many utterances is used
FULL, HALF = 6, 3  # max_batch_size
MAX_BATCH_SECONDS = 100  # not reached
NO_MASKS = ["--spec_augment", "[]"]
# name of each way: number of processes, utterances in a batch, other options
WAYS = {
    "one": (1, FULL, []),
    "two": (2, HALF, []),
    "one_exact": (1, FULL, NO_MASKS),
    "two_exact": (2, HALF, NO_MASKS),
}
MEASURES = {"train loss": "training loss", "valid loss": "dev loss", "valid wer_6": "dev WER at layer 6"}


def run_training(argv: list[str]) -> None:
    """Run train.py in this process, and write the losses of its optimizer steps to the run folder."""
    sys.path.insert(0, str(ROOT))
    import train

    recorded = {}

    class RecordingBrain(train.ExitBrain):
        """Writes ``losses.json``: by epoch, the loss of each optimizer step, a mean over processes."""

        def fit_batch(self, batch):
            loss = super().fit_batch(batch)
            recorded.setdefault(self.hparams.epoch_counter.current, []).append(loss.item())
            return loss

        def on_stage_end(self, stage, stage_loss, epoch=None):
            super().on_stage_end(stage, stage_loss, epoch)
            if os.environ.get("RANK", "0") == "0":
                (Path(self.hparams.output_folder) / "losses.json").write_text(json.dumps(recorded), "utf-8")

    train.ExitBrain = RecordingBrain
    train.evaluate_all = lambda *_: None  # the curves are what is compared
    train.main(argv)


def write_manifests(data: Path, out: Path) -> None:
    """Write every SHARE-th line of the manifests of training and dev."""
    for name in ("train.jsonl", "dev.jsonl"):
        lines = (data / name).read_text("utf-8").splitlines(keepends=True)
        (out / name).write_text("".join(lines[::SHARE]), "utf-8")


def train_way(name: str, seed: int, epochs: int, data: Path, out: Path) -> Path:
    """Train in one way unless this is done; returns the run folder."""
    run = out / f"{name}-{seed}"
    if (run / "model.safetensors").exists():
        return run
    num_processes, size, more = WAYS[name]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    options = {
        "seed": seed,
        "output_folder": run,
        "train_manifest": out / "train.jsonl",
        "valid_manifest": out / "dev.jsonl",
        "test_manifests": "[]",
        "data_root": data,
        "number_of_epochs": epochs,
        "warmup_steps": WARMUP_STEPS,
        "max_batch_seconds": MAX_BATCH_SECONDS,
        "max_batch_size": size,
        "device": "cpu",
        "ckpt_interval_minutes": 0,
    }
    command = [sys.executable, *(launcher if num_processes > 1 else []), __file__, "--train"]
    command += [str(ROOT / "hparams" / "conformer_ee.yaml"), "--noprogressbar"]
    command += [word for key, value in options.items() for word in (f"--{key}", str(value))] + more
    if num_processes > 1:
        command += ["--distributed_backend", "gloo"]
    with open(f"{run}.log", "ab") as log:
        environment = {"OMP_NUM_THREADS": "1"} | os.environ
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    return run


def read_run(run: Path) -> dict:
    """Return the figures of each epoch and the losses of all steps."""
    lines = (run / "train_log.txt").read_text("utf-8").splitlines()
    epochs = {key: [float(re.search(f"{key}: ([\\d.e+-]+)", line)[1]) for line in lines] for key in MEASURES}
    losses = json.loads((run / "losses.json").read_text("utf-8"))
    return {"epochs": epochs, "steps": [loss for epoch in sorted(losses, key=int) for loss in losses[epoch]]}


def exact_difference(one: list[float], two: list[float]) -> dict:
    """Return the largest relative difference of the losses in the first 50 steps and in all."""
    differences = [abs(a - b) / a for a, b in zip(one, two, strict=True)]
    return {
        "steps": len(differences),
        "first_50": float(f"{max(differences[:50]):.2g}"),
        "all": float(f"{max(differences):.2g}"),
    }


def differences(runs: dict[str, dict], measure: str) -> dict[str, float]:
    """Compare the last epochs: means, difference between ways for the same seed, difference between seeds."""
    last = {way: [runs[f"{way}-{seed}"]["epochs"][measure][-1] for seed in SEEDS] for way in ("one", "two")}
    between_ways = [abs(a - b) for a, b in zip(last["one"], last["two"], strict=True)]
    between_seeds = [max(values) - min(values) for values in last.values()]
    return {way: statistics.mean(values) for way, values in last.items()} | {
        "between_ways": statistics.mean(between_ways),
        "between_seeds": statistics.mean(between_seeds),
    }


def markdown(found: dict) -> str:
    """Return a table of the last epoch's figures and their differences."""
    lines = [
        f"| after {found['num_epochs']} epochs | one process | two processes | difference | difference of two seeds |",
        "|---|---|---|---|---|",
    ]
    for key, name in MEASURES.items():
        row = found["last_epoch"][key]
        cells = (f"{row[column]:.2f}" for column in ("one", "two", "between_ways", "between_seeds"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def exact_markdown(found: dict) -> str:
    """Return a table of the largest differences without SpecAugment."""
    exact = found["exact"]
    return "\n".join(
        [
            "| steps | largest relative difference of the losses |",
            "|---|---|",
            f"| the first 50 | {100 * exact['first_50']:.1g} % |",
            f"| all {exact['steps']} | {100 * exact['all']:.2g} % |",
        ]
    )


def draw(found: dict, path: Path) -> None:
    """Draw losses and WER by epoch, a line per run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (key, name) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        for way, colour in (("one", "tab:blue"), ("two", "tab:orange")):
            for seed, style in zip(SEEDS, ("-", "--"), strict=True):
                values = found["epochs"][f"{way}-{seed}"][key]
                label = f"{way} process{'es' * (way == 'two')}, seed {seed}"
                axes.plot(range(1, len(values) + 1), values, style, color=colour, label=label)
        axes.set(xlabel="epoch", title=name + " (%)" * ("WER" in name))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    """Train in all ways and publish the comparison."""
    if sys.argv[1:2] == ["--train"]:
        return run_training(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--out", type=Path, default=Path("results/two_processes"), help="folder of the runs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data, out = args.data.resolve(), args.out.resolve()
    write_manifests(data, out)
    exact = [read_run(train_way(name, SEEDS[0], EXACT_EPOCHS, data, out)) for name in ("one_exact", "two_exact")]
    plan = [(way, seed) for seed in SEEDS for way in ("one", "two")]
    runs = {f"{way}-{seed}": read_run(train_way(way, seed, EPOCHS, data, out)) for way, seed in plan}
    found = {
        "benchmark": "two_processes",
        "torch": version("torch"),
        "num_epochs": EPOCHS,
        "exact": exact_difference(*(one["steps"] for one in exact)),
        "last_epoch": {
            key: {name: round(value, 4) for name, value in differences(runs, key).items()} for key in MEASURES
        },
        "epochs": {name: run["epochs"] for name, run in runs.items()},
        "steps_per_epoch": len(runs[f"one-{SEEDS[0]}"]["steps"]) // EPOCHS,
    }
    draw(found, ROOT / "docs" / "results" / "processes" / "curves.png")
    (ROOT / "benchmarks" / "results" / "two_processes.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(exact_markdown(found), markdown(found), sep="\n\n")
    return None


if __name__ == "__main__":
    main()
