# SPDX-License-Identifier: Apache-2.0
"""``speechbrain-ee report``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ee.cli.options import check_folder
from speechbrain_ee.startup import prepare_process


def report(
    run: Annotated[Path, typer.Argument(help="Run folder or bundle with evaluated sets.")],
    out: Annotated[Path | None, typer.Option(help="The page; RUN/report.html by default, report.md beside it.")] = None,
) -> None:
    """Make one page of everything evaluated in RUN/eval: policies, thresholds, exits, texts. It works offline."""
    prepare_process()
    from speechbrain_ee.evaluation.page.run_page import write_report

    check_folder(run)
    page = out or run / "report.html"
    write_report(run, page)
    print(f"{page}: {page.stat().st_size / 2**20:.1f} MB; {page.with_suffix('.md').name} beside it", file=sys.stderr)
