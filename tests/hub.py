# SPDX-License-Identifier: Apache-2.0
"""A local HuggingFace Hub server that serves folders as repositories for downloads."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    """Serves repository information, and files with the headers that the client needs for its cache."""

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, *, with_body):
        self.server.asked.append(self.path)
        body, headers = self._found(self.path.partition("?")[0])
        self.send_response(404 if body is None else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if with_body and body:
            self.wfile.write(body)

    def _found(self, path):
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/[^/]+)?", path):
            folder = self.server.repositories.get(match[1])
            if folder is not None:
                files = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
                return json.dumps({"id": match[1], "sha": COMMIT, "siblings": files}).encode(), {}
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            folder = self.server.repositories.get(match[1])
            if folder is None:
                return None, {"X-Error-Code": "RepoNotFound"}
            headers = {"X-Repo-Commit": COMMIT}
            if not (folder / match[2]).is_file():
                return None, headers | {"X-Error-Code": "EntryNotFound"}
            body = (folder / match[2]).read_bytes()
            return body, headers | {"ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
        return None, {"X-Error-Code": "RepoNotFound"}

    def log_message(self, *_):
        """Disable the log."""


@contextmanager
def serve(**repositories):
    """Serve folders as repositories (``user__name=folder``); yields the server, whose ``asked`` lists the requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.repositories = {name.replace("__", "/"): Path(folder) for name, folder in repositories.items()}
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def run_with(server, cache, code):
    """Run Python code in a process that uses the server as the Hub, with a separate cache."""
    environment = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(cache)}
    environment |= {"PYTHONPATH": str(Path(__file__).parent)}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
