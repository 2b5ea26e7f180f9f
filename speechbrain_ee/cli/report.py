# SPDX-License-Identifier: Apache-2.0
"""The command ``speechbrain-ee report``: write the report page of a run."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ee.cli.options import check_folder
from speechbrain_ee.startup import prepare_process


def report(
    run: Annotated[Path, typer.Argument(help="Run folder or bundle with evaluated sets.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The HTML file; RUN/report.html by default. A .md file with the tables is written beside it."
        ),
    ] = None,
) -> None:
    """Write one HTML page of all evaluated sets in RUN/eval: policies, thresholds, exits, texts. It works offline."""
    prepare_process()
    from speechbrain_ee.evaluation.page.run_page import write_run_page

    check_folder(run)
    page = out or run / "report.html"
    write_run_page(run, page)
    print(
        f"{page}: {page.stat().st_size / 2**20:.1f} MB, and {page.with_suffix('.md').name} beside it", file=sys.stderr
    )
