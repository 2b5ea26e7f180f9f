# SPDX-License-Identifier: Apache-2.0
"""The command ``speechbrain-ee report``: write the report page of a run."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ee.cli.options import check_folder
from speechbrain_ee.startup import prepare_process


def report(
    run: Annotated[Path, typer.Argument(help="Export, run folder or model folder with evaluated sets.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The HTML file; default: RUN/report.html. A .md file with the tables is written to the same folder."
        ),
    ] = None,
) -> None:
    """Write one HTML page about all evaluated sets of a run.

    The page shows policies, thresholds, exits and texts of the sets in RUN/eval. It works offline.
    """
    prepare_process()
    from speechbrain_ee.evaluation.page.run_page import write_run_page

    check_folder(run)
    page = out or run / "report.html"
    write_run_page(run, page)
    print(f"{page}: {page.stat().st_size / 2**20:.1f} MB; tables: {page.with_suffix('.md').name}", file=sys.stderr)
