# SPDX-License-Identifier: Apache-2.0
"""Measure the WER, MACs and time of the calibrated policy relative to full depth, over a test set.

python benchmarks/policy_speed.py RUN [--model EXPORT] [--test_set test] [--rounds N] [--out FILE]

Prints a table. RUN is a run folder with a calibration.json. Every file of RUN/eval/<test set> is read and transcribed
with both policies, one at a time and in alternating order. The fastest round of each file is reported. With --model,
the run's export is used instead of its model in torch.
"""

import argparse
import json
import time
from pathlib import Path

from ee_runtime.errors import one_line_errors
from speechbrain_ee.startup import prepare_process

with one_line_errors("policy_speed.py"):
    prepare_process()  # before torch is imported

from tqdm import tqdm

from ee_runtime.audio import Excerpt
from ee_runtime.policies import FixedExit, Policy
from ee_runtime.transcriber import Transcriber
from speechbrain_ee.inference.open_model import is_export, open_model
from speechbrain_ee.lobes.cost import machine
from speechbrain_ee.replay.utterances import read_utterances
from speechbrain_ee.text.metrics import word_errors

WARM_UP = 10  # utterances; the first calls allocate memory and select kernels


def compare(asr: Transcriber, utterances: list[dict], *, num_rounds: int) -> dict[str, dict]:
    """Transcribe all utterances with each policy; returns WER, mean exit layer, MACs and seconds by policy.

    Arguments
    ---------
    asr : Transcriber
        With its calibrated policy.
    utterances : list of dict
        Lines of ``utterances.jsonl``; their audio files must exist.
    num_rounds : int
        Transcriptions of each utterance with each policy.

    Returns
    -------
    dict
        ``full depth`` and ``calibrated``, each with ``wer`` (percent), ``mean_layer``, ``macs`` and ``seconds``.
    """
    policies: dict[str, Policy] = {"full depth": FixedExit(), "calibrated": asr.policy}
    for one in utterances[:WARM_UP]:
        for policy in policies.values():
            asr.transcribe_file(one["audio_filepath"], excerpt=Excerpt.of_line(one), policy=policy)
    sums = {name: {"errors": 0, "layers": 0, "macs": 0, "seconds": 0.0} for name in policies}
    for number, one in enumerate(tqdm(utterances, delay=2, leave=False)):
        best = dict.fromkeys(policies, float("inf"))
        results = {}
        for turn in range(num_rounds):
            for name in sorted(policies, reverse=bool((number + turn) % 2)):
                begin = time.perf_counter()
                results[name] = asr.transcribe_file(
                    one["audio_filepath"], excerpt=Excerpt.of_line(one), policy=policies[name]
                )
                best[name] = min(best[name], time.perf_counter() - begin)
        for name, result in results.items():
            errors = sum(word_errors(one["reference"], result.text).values())
            found = {"errors": errors, "layers": result.exit_layer, "macs": result.macs, "seconds": best[name]}
            sums[name] = {key: value + found[key] for key, value in sums[name].items()}
    words = sum(one["num_words"] for one in utterances)
    return {
        name: {
            "wer": 100 * total["errors"] / words,
            "mean_layer": total["layers"] / len(utterances),
            "macs": total["macs"],
            "seconds": total["seconds"],
        }
        for name, total in sums.items()
    }


def table(found: dict[str, dict]) -> str:
    """Return a table of both policies; MACs and time are relative to full depth."""
    full = found["full depth"]
    lines = [f"{'':12} {'WER %':>6} {'mean layer':>11} {'MACs':>8} {'time':>8}"]
    for name, row in found.items():
        macs, seconds = row["macs"] / full["macs"], row["seconds"] / full["seconds"]
        lines.append(f"{name:12} {row['wer']:6.2f} {row['mean_layer']:11.2f} {macs:8.1%} {seconds:8.1%}")
    return "\n".join(lines)


def main() -> None:
    """Measure both policies and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder with a calibration.json")
    parser.add_argument("--model", type=Path, help="export of the run; default: the run itself, in torch")
    parser.add_argument("--test_set", default="test", help="name of an evaluated set of the run")
    parser.add_argument("--rounds", type=int, default=2, help="transcriptions of each utterance and policy")
    parser.add_argument("--out", type=Path, help="write the figures as JSON to this file")
    args = parser.parse_args()
    with one_line_errors("policy_speed.py"):
        if args.rounds < 1:
            raise ValueError(f"--rounds {args.rounds}: give 1 or more")
        utterances = read_utterances(args.run / "eval" / args.test_set / "utterances.jsonl")
        source = args.model or args.run
        asr = open_model(source)
        if asr.calibration is None:
            raise ValueError(f"{source} has no calibration.json: run speechbrain-ee calibrate first")
        found = compare(asr, utterances, num_rounds=args.rounds)
        here = machine()
        audio = sum(one["duration"] for one in utterances)
        print(table(found))
        library = "onnxruntime" if is_export(source) else "torch"
        print(
            f"{len(utterances)} utterances of {args.test_set} ({audio / 60:.1f} min), one at a time, in {library}. "
            f"Full depth took {found['full depth']['seconds'] / audio:.4f} s per second of audio on "
            f"{here['threads']} threads of a {here['cpu']} ({here['gemm_gflops']:.0f} GFLOP/s)"
        )
        if args.out:
            args.out.write_text(
                json.dumps({"policies": found, "audio_s": audio, "machine": here}, indent=2) + "\n", "utf-8"
            )


if __name__ == "__main__":
    main()
