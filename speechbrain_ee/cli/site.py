# SPDX-License-Identifier: Apache-2.0
"""``speechbrain-ee app``: a page that runs a model in the browser."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ee.cli.options import RevisionOption
from speechbrain_ee.startup import prepare_process

DEFAULT_PORT = 8000


def app(
    model: Annotated[str, typer.Argument(help="Export, run folder, model folder, bundle, or name on the Hub.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the page: new, empty, or with an earlier page. Default: serve it on this computer."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help=f"Port to serve on; 0: a free one. Default: {DEFAULT_PORT}.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    onnxruntime_web: Annotated[
        Path | None,
        typer.Option(
            help="Tarball or folder of the npm package onnxruntime-web, for computers without access to an npm "
            "registry. Default: download it once."
        ),
    ] = None,
    revision: RevisionOption = None,
) -> None:
    """Make a web page that recognises speech in the browser, from the microphone or from files, offline.

    With --out, write a folder of static files for any web server or for a static HuggingFace Space. Otherwise, serve
    the page at http://127.0.0.1:8000/ until Ctrl-C. The page uploads nothing. A model that is not an export is exported
    first.
    """
    from speechbrain_ee.app.build import DEFAULT_TITLE, build_site, check_title

    if out is not None and port is not None:
        raise typer.BadParameter("--port serves the page and --out writes it: give one of them")
    title = DEFAULT_TITLE if title is None else title
    try:
        check_title(title)
    except ValueError as error:
        raise typer.BadParameter(f"--title: {error}") from None
    prepare_process()
    options = {"title": title, "revision": revision, "onnxruntime_web": onnxruntime_web}
    if out is not None:
        for line in build_site(model, out, **options):
            print(line, file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="speechbrain-ee-page-") as folder:
        _serve(model, Path(folder), DEFAULT_PORT if port is None else port, options)


def _serve(model: str, folder: Path, port: int, options: dict) -> None:
    """Serve the page until Ctrl-C; a port in use is found before the model is exported."""
    from speechbrain_ee.app.build import build_site
    from speechbrain_ee.app.serve import HOST, make_server

    with make_server(folder, port) as server:
        for line in build_site(model, folder, offline=False, **options):
            print(line.removeprefix(f"{folder}: "), file=sys.stderr)
        print(f"http://{HOST}:{server.server_port}/ (Ctrl-C ends it)", file=sys.stderr, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(file=sys.stderr)
