# SPDX-License-Identifier: Apache-2.0
"""The command ``ee-bench``: measure exported models on this machine, without torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ee_runtime import __version__
from ee_runtime.bench.opener import export_opener
from ee_runtime.bench.options import DEFAULT_ROUNDS, DEFAULT_STARTS, BenchOptions, parse_seconds
from ee_runtime.errors import one_line_errors
from ee_runtime.threads import default_threads

PROGRAM = "ee-bench"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    with one_line_errors(PROGRAM):
        parser = make_parser()
        arguments = parser.parse_args(argv)
        try:
            options = _options(arguments)
        except ValueError as error:
            parser.error(str(error))
        from ee_runtime.bench.figures import bench, nothing_fits, write_figures
        from ee_runtime.bench.table import bench_table
        from ee_runtime.sessions import silence

        silence()
        threads = arguments.threads or default_threads()
        folders = [arguments.folder] + ([] if arguments.against is None else [arguments.against])
        openers = [export_opener(folder, threads) for folder in folders]
        figures = bench(openers, options, threads=threads, program=PROGRAM)
        if options.out is not None:
            write_figures(options.out, figures)
        print(bench_table(figures))
        return 1 if nothing_fits(figures) else 0


def _options(arguments: argparse.Namespace) -> BenchOptions:
    if arguments.threads is not None and arguments.threads < 1:
        raise ValueError(f"--threads {arguments.threads}: give 1 or more")
    names = ("audio", "batch", "rounds", "starts", "rtf", "ms", "out")
    given = {name: getattr(arguments, name) for name in names}
    return BenchOptions(seconds=parse_seconds(arguments.seconds), **given)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="Measure an exported model on this machine: time of each exit, start of a process, peak memory and "
        "size. With --rtf or --ms, print the deepest exit, and the policy, that are fast enough; the exit status is 1 "
        "if nothing is.",
        epilog=f"Example: {PROGRAM} exported --threads 1 --seconds 2,10 --ms 200",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="DIR", help="folder of speechbrain-ee export")
    parser.add_argument("--against", metavar="DIR", help="another export; all runs of both alternate")
    parser.add_argument(
        "--seconds", action="append", default=[], help="lengths of noise, e.g. 2,10; default: 10; can be repeated"
    )
    parser.add_argument(
        "--audio", nargs="+", action="extend", default=[], type=Path, metavar="FILE", help="recordings, for the policy"
    )
    parser.add_argument("--threads", type=int, help="CPU threads; default: OMP_NUM_THREADS, or the CPUs")
    parser.add_argument("--batch", type=int, default=1, help="utterances per call; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS, help="alternating rounds; default: %(default)s")
    parser.add_argument(
        "--starts", type=int, default=DEFAULT_STARTS, help="fresh processes per depth; default: %(default)s; 0: none"
    )
    parser.add_argument("--rtf", type=float, help="budget: seconds of computation per second of audio")
    parser.add_argument("--ms", type=float, help="budget: milliseconds per recording, or per part of 30 s")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the figures to this file")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
