# SPDX-License-Identifier: Apache-2.0
"""The command ``speechbrain-ee``: results are printed to standard output, progress and notes to standard error."""

import logging
from typing import Annotated

import typer

from ee_runtime.errors import one_line_errors
from speechbrain_ee import __version__
from speechbrain_ee.cli.bench import bench
from speechbrain_ee.cli.bundle import bundle
from speechbrain_ee.cli.calibrate import calibrate
from speechbrain_ee.cli.evaluate import evaluate
from speechbrain_ee.cli.export import export
from speechbrain_ee.cli.options import PROGRAM
from speechbrain_ee.cli.push import push
from speechbrain_ee.cli.report import report
from speechbrain_ee.cli.site import app as site
from speechbrain_ee.cli.transcribe import transcribe

app = typer.Typer(
    name=PROGRAM,
    help="Early-exit speech recognition.",
    epilog=f"Example: {PROGRAM} transcribe --model results/conformer_ee/1234 a.wav",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(epilog=f"Example: {PROGRAM} transcribe --model results/conformer_ee/1234 --entropy 0.1 a.wav b.flac")(
    transcribe
)
app.command(epilog=f"Example: {PROGRAM} evaluate results/conformer_ee/1234 --manifest data/synthetic/test.jsonl")(
    evaluate
)
app.command(epilog=f"Example: {PROGRAM} calibrate results/conformer_ee/1234 --score entropy --promise 0.5")(calibrate)
app.command(epilog=f"Example: {PROGRAM} export results/conformer_ee/1234 --out exported")(export)
app.command(epilog=f"Example: {PROGRAM} bundle results/conformer_ee/1234 --out my-model --language en")(bundle)
app.command(epilog=f"Example: {PROGRAM} push my-model user/my-model --private")(push)
app.command(epilog=f"Example: {PROGRAM} bench exported --threads 1 --ms 200 --audio a.wav b.wav --out bench.json")(
    bench
)
app.command(epilog=f"Example: {PROGRAM} report results/conformer_ee/1234")(report)
app.command("app", epilog=f"Example: {PROGRAM} app results/conformer_ee/1234 --out page")(site)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def main_callback(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Early-exit speech recognition."""
    logging.getLogger().setLevel(logging.WARNING)


def main() -> None:
    """Run the command; the exit status is 1 for an error (printed in one line) and 2 for a usage error."""
    with one_line_errors(PROGRAM):
        try:
            app(prog_name=PROGRAM)
        except SystemExit as ended:
            reason = ended.__context__
            if isinstance(reason, typer.Exit) and isinstance(reason.__cause__, KeyboardInterrupt):
                raise reason.__cause__ from None  # typer would end without a line
            raise
