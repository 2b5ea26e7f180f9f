# SPDX-License-Identifier: Apache-2.0
"""The command ``speechbrain-ee report``: write the report page of a run."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ee.cli.options import RevisionOption, evaluated_folder
from speechbrain_ee.startup import prepare_process


def report(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Export, run folder, model folder, or name on the Hub, with evaluated sets."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The HTML file; default: RUN/report.html. A .md file with the tables is written to the same folder."
        ),
    ] = None,
    revision: RevisionOption = None,
) -> None:
    """Write one HTML page about all evaluated sets of a run.

    The page shows policies, thresholds, exits and texts of the sets in RUN/eval. It works offline.
    """
    prepare_process()
    from speechbrain_ee.evaluation.page.run_page import write_run_page

    run = evaluated_folder(model, revision)
    page = out or run / "report.html"
    write_run_page(run, page)
    print(f"{page}: {page.stat().st_size / 2**20:.1f} MB; tables: {page.with_suffix('.md').name}", file=sys.stderr)
