# SPDX-License-Identifier: Apache-2.0
"""Train models with exits on two corpora together, and evaluate and calibrate them on their test sets.

python benchmarks/more_speech.py conformer retrofit whisper --out results/more_speech [--data data] [--jobs 2] \
    [-- --device cuda]

Needs DATA/speech and DATA/speech2 (manifests and audio) and, for Whisper, DATA/whisper-base-encoder.

* ``conformer`` is a Conformer with six layers and exits, trained from scratch.
* ``retrofit`` has heads on Whisper's frozen encoder.
* ``whisper`` starts from the retrofit, which is trained first; the whole model is tuned and interpolated with it.

The options after ``--`` are passed to train.py for every model and replace those of the models. With ``--jobs 2``, the
Conformer and Whisper are trained at the same time. Run the same command again to resume.

Prints Markdown tables, and writes OUT/more_speech.json, a plot per set, and OUT/calibrated.json.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from ee_runtime.errors import one_line_errors

TESTS = (
    "speech/test-librispeech-other",
    "speech/test-speechocean762",
    "speech2/test-librispeech-clean",
    "speech2/test-commonvoice",
)
AUGMENTATION = ["--speeds", "[0.9, 1.0, 1.1]", "--noise_probability", "0.3"]
BATCHES = ["--max_batch_seconds", "30", "--max_batch_size", "32", "--num_buckets", "20", "--precision", "bf16"]
CONFORMER = [
    *("--number_of_epochs", "28", "--lr", "1e-3", "--warmup_steps", "1500", "--average_checkpoints", "5"),
    *("--n_mels", "80", "--d_model", "144", "--d_ffn", "576", "--kernel_size", "15", "--exit_weights", "uniform"),
    *("--time_masks", "2", "--freq_masks", "2", *AUGMENTATION, *BATCHES),
]
RETROFIT = [
    *("--number_of_epochs", "1", "--lr", "2e-3", "--warmup_steps", "200", "--average_checkpoints", "1"),
    *("--freeze", "encoder", "--max_batch_seconds", "60", *BATCHES[2:]),
]
WHISPER = [
    *("--number_of_epochs", "3", "--lr", "1e-3", "--warmup_steps", "300", "--average_checkpoints", "1"),
    *("--init_share", "0.5", "--dropout", "0.1", *AUGMENTATION, *BATCHES),
]


def models(data: Path, out: Path) -> dict[str, tuple[str, list[str]]]:
    """Return the yaml and the options of train.py of every model."""
    heads = ["--source", str(data / "whisper-base-encoder"), "--head_kind", "blstm", "--head_size", "128"]
    start = ["--init_from", str(out / "retrofit"), "--tokenizer_file", str(out / "retrofit" / "tokenizer.model")]
    return {
        "conformer": ("hparams/conformer_ee.yaml", CONFORMER),
        "retrofit": ("hparams/whisper_ee.yaml", [*heads, "--state_cache", str(out / "states"), *RETROFIT]),
        "whisper": ("hparams/whisper_ee.yaml", [*heads, *start, *WHISPER]),
    }


def evaluate(run: Path, manifests: list[Path]) -> None:
    """Evaluate every exit of a trained model on manifests; finished sets are kept."""
    command = [sys.executable, "-m", "speechbrain_ee.cli", "evaluate", str(run)]
    status = subprocess.run([*command, *(word for one in manifests for word in ("--manifest", str(one)))]).returncode
    if status:
        raise ValueError(f"evaluate ended with status {status} in {run}: see its message above")


def main() -> None:
    """Train, evaluate, calibrate and publish."""
    import calibrated
    from paper_corpus import Corpus
    from side_by_side import publish, read
    from twins import FINISHED, train, without

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", choices=["conformer", "retrofit", "whisper"])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the two corpora")
    parser.add_argument("--out", type=Path, default=Path("results/more_speech"), help="folder to write")
    parser.add_argument("--jobs", type=int, default=1, help="models to train at a time")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, overrides = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
    args.out.mkdir(parents=True, exist_ok=True)
    parts, dev = [args.data / name / "train.jsonl" for name in ("speech", "speech2")], args.data / "speech/dev.jsonl"
    tests = [args.data / f"{name}.jsonl" for name in TESTS]
    corpus = Corpus("of the two packs", Path(), args.data, parts, dev, tests)
    corpus.prepare(args.out)
    data = replace(corpus, tests=[]).options(args.out)  # the test sets are evaluated after the training
    given = [word for word in overrides if word.startswith("--")]
    known = models(args.data, args.out)
    wanted = {*args.models, *(["retrofit"] if "whisper" in args.models else [])}
    chains = [[name for name in chain if name in wanted] for chain in (["conformer"], ["retrofit", "whisper"])]

    def run(chain: list[str]) -> dict[str, float]:
        minutes = {}
        for name in chain:
            yaml, own = known[name]
            options = [*data, *without(own, given), *overrides]
            minutes[name] = train(yaml, args.out / name, options, args.jobs)
        return minutes

    with ThreadPoolExecutor(args.jobs) as pool:
        minutes = {name: one for done in pool.map(run, chains) for name, one in done.items()}
    for name in minutes:
        evaluate(args.out / name, [dev, *tests])
    results = {"command": " ".join(sys.argv), "runs": {}}
    for name in known:  # those of earlier calls, too
        if (args.out / name / FINISHED).exists():
            took = json.loads((args.out / name / FINISHED).read_text("utf-8"))["minutes"]
            results["runs"][name] = {"sets": read(args.out / name), "minutes": round(took, 1)}
    publish(results, args.out / "more_speech")
    promise = {"points": 1.0, "delta": 0.1, "test_set": "test-speechocean762"}
    calibrated.publish(
        {name: args.out / name for name in results["runs"]}, args.out / "calibrated.json", promise=promise
    )


if __name__ == "__main__":
    with one_line_errors("more_speech.py"):
        main()
