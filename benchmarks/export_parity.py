# SPDX-License-Identifier: Apache-2.0
"""Compare an export with its model on real utterances: log-probabilities, texts and exits taken (law 9).

python benchmarks/export_parity.py RUN EXPORT --manifest MANIFEST [--utterances 500] [--name export_parity]

Each utterance is run by itself. For every exit: the largest difference of a log-probability that is above -20, and the
number of identical greedy texts. For the policy of the calibration: the number of identical exits, and for every
other utterance the distance of its score from the threshold. Prints JSON and writes it to results/<name>.json.
"""

import argparse
from pathlib import Path

import numpy as np
from common import publish

from ee_runtime import EarlyExitRuntime
from ee_runtime.errors import one_line_errors
from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.inference.asr import EarlyExitASR

FLOOR = -20.0  # lower log-probabilities never decide anything


def exits(model, waveform) -> list[tuple[np.ndarray, str]]:
    """Return log-probabilities and greedy text of every exit."""
    with model.inference():
        run, _ = model.start(model.make_batch(model.check_waveforms([waveform])))
        found = []
        for _ in run.exit_layers:
            run.advance()
            output = run.output()
            log_probs = np.asarray(output.log_probs[0])[: len(output.best_paths[0])]
            found.append((log_probs, model.decoder.decode(output)[0].text))
    return found


def compare(asr: EarlyExitASR, runtime: EarlyExitRuntime, waveforms: list) -> dict:
    """Return the figures."""
    differences, same = np.zeros(len(asr.exit_layers)), np.zeros(len(asr.exit_layers), int)
    same_exits, others = 0, []
    for waveform in waveforms:
        for index, ((ours, text), (theirs, other)) in enumerate(
            zip(exits(asr, waveform), exits(runtime, waveform), strict=True)
        ):
            likely = ours > FLOOR
            differences[index] = max(differences[index], np.abs(ours - theirs)[likely].max())
            same[index] += text == other
        (one,), (two,) = (model.transcribe_waveforms([waveform]) for model in (asr, runtime))
        same_exits += one.exit_layer == two.exit_layer
        if one.exit_layer != two.exit_layer:
            others.append(abs(one.policy_value - asr.policy.to_dict()["threshold"]))
    return {
        "utterances": len(waveforms),
        "exit_layers": list(asr.exit_layers),
        "largest_difference": [float(f"{value:.2g}") for value in differences],
        "same_texts": same.tolist(),
        "policy": asr.policy.to_dict()["policy"],
        "same_exits": same_exits,
        "distances_of_other_exits": others,
    }


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("export", type=Path, help="its export")
    parser.add_argument("--manifest", type=Path, required=True, help="utterances")
    parser.add_argument("--utterances", type=int, default=500, help="number of utterances (default: %(default)s)")
    parser.add_argument("--name", default="export_parity", help="name of the file of results")
    args = parser.parse_args()
    asr, runtime = EarlyExitASR.from_hparams(args.run), EarlyExitRuntime(args.export)
    utterances = read_manifest(args.manifest)[: args.utterances]
    waveforms = [part for one in utterances for part in asr.read_parts(one.audio_filepath, excerpt=one.excerpt)]
    publish(args.name, {"manifest": args.manifest.name} | compare(asr, runtime, waveforms))


if __name__ == "__main__":
    with one_line_errors("export_parity.py"):
        main()
