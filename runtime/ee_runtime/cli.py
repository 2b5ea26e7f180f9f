# SPDX-License-Identifier: Apache-2.0
"""The command ``ee-transcribe``: transcribe files with an exported model, without torch."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ee_runtime import __version__
from ee_runtime.errors import one_line_errors

PROGRAM = "ee-transcribe"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    with one_line_errors(PROGRAM):
        arguments = make_parser().parse_args(argv)
        logging.basicConfig(format=f"{PROGRAM}: %(message)s", level=logging.WARNING)
        from ee_runtime.output import policy_of_options, transcribe_files
        from ee_runtime.runtime import EarlyExitRuntime
        from ee_runtime.sessions import silence

        silence()
        model = EarlyExitRuntime(
            arguments.model,
            policy=policy_of_options(arguments.layer, arguments.entropy, arguments.full),
            calibration_file=arguments.calibration,
            decoding=arguments.decoding,
            beam_size=arguments.beam_size,
            threads=arguments.threads,
        )
        limits = {name: getattr(arguments, name) for name in ("max_layer", "budget", "deadline_ms")}
        options = {"limits": limits, "as_json": arguments.json, "program": PROGRAM}
        return 0 if transcribe_files(model, arguments.files, **options) else 1


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="Transcribe audio files with an exported model; print one line FILE<tab>TEXT per file. Each file "
        "stops at an exit chosen by the policy: --layer, --entropy or --full, or else that of the model's "
        "calibration.json, or else the full encoder.",
        epilog=f"Example: {PROGRAM} --model exported --json recording.wav",
        allow_abbrev=False,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="wav, flac, ogg, mp3, ... or /dev/stdin")
    parser.add_argument("--model", required=True, type=Path, metavar="DIR", help="folder of speechbrain-ee export")
    policy = parser.add_mutually_exclusive_group()
    policy.add_argument("--layer", type=int, help="always stop at this exit layer")
    policy.add_argument(
        "--entropy", type=float, help="stop at the first exit with a mean frame entropy of at most this; 0 to 1"
    )
    policy.add_argument("--full", action="store_true", help="always run the full encoder")
    parser.add_argument("--max-layer", type=int, help="deepest layer that is run")
    parser.add_argument("--budget", type=float, help="largest number of MACs per second of audio")
    parser.add_argument("--deadline-ms", type=float, help="largest time in ms for a file, or for four parts of it")
    parser.add_argument("--calibration", type=Path, help="a calibration.json; default: that of the model")
    parser.add_argument(
        "--decoding",
        default="greedy",
        metavar="NAME",
        help="greedy or beam: with the attention decoders if the model has any, otherwise CTC; rescore: CTC beam, "
        "rescored by the attention decoder; ctc: greedy CTC; default: greedy",
    )
    parser.add_argument("--beam-size", type=int, help="default: 50 for a CTC beam, 10 with attention")
    parser.add_argument("--threads", type=int, help="CPU threads; default: OMP_NUM_THREADS, or the CPUs")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
