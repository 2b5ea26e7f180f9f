# SPDX-License-Identifier: Apache-2.0
"""Serve a page on this computer only."""

from __future__ import annotations

import functools
import sys
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from speechbrain_ee.app.space import HEADERS

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    "": "application/octet-stream",
}


class PageHandler(SimpleHTTPRequestHandler):
    """Answers GET and HEAD for files of one folder; lists no folders, and logs nothing."""

    extensions_map = TYPES

    def send_head(self):
        """Answer only requests that name this computer, so that no other site can reach the page by a DNS name."""
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in NAMES:
            self.send_error(HTTPStatus.FORBIDDEN, f"Open http://{HOST}:{self.server.server_port}/")
            return None
        return super().send_head()

    def list_directory(self, path):
        """See the base class; a folder without index.html is not found."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self):
        """Add headers: several threads are allowed, types are not guessed, and files are not kept."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_):
        """Log nothing."""


class PageServer(ThreadingHTTPServer):
    """Serves pages until it is shut down."""

    def handle_error(self, request, client_address):
        """Ignore browsers that close a connection; other errors are shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def make_server(folder: Path, port: int) -> PageServer:
    """Make a server for a page; call its ``serve_forever``.

    Arguments
    ---------
    folder : Path
        Folder of the page.
    port : int
        Port; 0 chooses a free one, see ``server_port``.

    Raises
    ------
    OSError
        If the port is in use or may not be used.
    """
    try:
        return PageServer((HOST, port), functools.partial(PageHandler, directory=str(folder)))
    except OSError as error:
        raise OSError(f"cannot use port {port} ({error.strerror}): give another one with --port") from None
