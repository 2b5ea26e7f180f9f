# SPDX-License-Identifier: Apache-2.0
"""A local server with the parts of the HuggingFace Hub's HTTP API that downloads and uploads with LFS need."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TEXT_FILES = (".json", ".md", ".yaml", "LICENSE")  # others are stored with LFS
TOKENS = {"hf_user": "user", "hf_stranger": "stranger"}  # name of the user by token


@dataclass
class Repository:
    """Files of every commit, oldest first; ``tags`` names some of them."""

    private: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])
    tags: dict[str, int] = field(default_factory=dict)

    def sha(self, index):
        """Return the name of a commit."""
        return hashlib.sha1(f"{id(self)} {index}".encode()).hexdigest()

    def find(self, revision):
        """Return the index of a commit; None if there is no such revision."""
        if revision == "main":
            return len(self.commits) - 1
        shas = {self.sha(index): index for index in range(len(self.commits))}
        return (shas | self.tags).get(revision)


@dataclass
class Break:
    """Closes the connection after ``after`` bytes of a body, the first ``times`` times that a request matches."""

    request: str  # a regular expression for METHOD PATH
    after: int
    times: int = 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer()

    do_GET = do_POST = do_PUT = do_HEAD

    def log_message(self, *_):
        """Disable the log."""

    def _answer(self):
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        if (self.headers.get("Range") or "bytes=0-") != "bytes=0-":
            self.server.asked[-1] += f" {self.headers['Range']}"
        body = self._read_body(path)
        if body is None:
            return
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.user = TOKENS.get(token)
        if token and self.user is None:
            self._refuse(401, message="Invalid credentials in Authorization header")
        else:
            self._route(path, body)

    def _read_body(self, path):
        length = int(self.headers.get("Content-Length") or 0)
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        if (broken := self._break(path, "PUT")) is not None:
            self.rfile.read(min(broken, length))
            self._hang_up()
            return None
        return self.rfile.read(length)

    def _route(self, path, body):
        if path == "/api/whoami-v2":
            self._json({"type": "user", "name": self.user}) if self.user else self._refuse(401)
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif match := re.fullmatch(r"/lfs/(\w+)", path):
            self.server.objects[match[1]] = body
            self._json({})
        elif match := re.fullmatch(r"/(?:api/models/)?([^/]+/[^/.]+)(?:\.git)?(/.*)?", path):
            self._in_repository(match[1], match[2] or "", body)
        else:
            self._refuse(404)

    def _create(self, wanted):
        name = f"{wanted.get('organization') or self.user}/{wanted['name']}"
        if self.user is None or not name.startswith(f"{self.user}/"):
            self._refuse(401 if self.user is None else 403, message="You don't have the rights to create a model there")
        elif name in self.server.repositories:
            self._json({"url": f"{self.server.url}/{name}"}, status=409)
        else:
            self.server.repositories[name] = Repository(
                private=bool(wanted.get("private")) or wanted.get("visibility") == "private"
            )
            self._json({"url": f"{self.server.url}/{name}"})

    def _in_repository(self, name, rest, body):
        repository = self.server.repositories.get(name)
        owns = self.user is not None and name.startswith(f"{self.user}/")
        if repository is None or (repository.private and not owns):
            return self._refuse(404 if self.user else 401, code="RepoNotFound", message="Repository not found")
        if self.command == "POST" and not owns:
            return self._refuse(403, message="You don't have the rights to write there")
        verb, _, what = rest.lstrip("/").partition("/")
        revision, _, file = what.partition("/")
        if verb == "info":  # of LFS
            return self._batch(json.loads(body))
        index = repository.find(revision or "main")
        if index is None:
            return self._refuse(404, code="RevisionNotFound", message="Invalid rev id")
        files = repository.commits[index]
        if verb in ("", "revision"):
            siblings = [{"rfilename": one} for one in files]
            self._json({"id": name, "sha": repository.sha(index), "private": repository.private, "siblings": siblings})
        elif verb == "tree":
            self._json([_entry(path, data) for path, data in sorted(files.items())])
        elif verb == "resolve":
            self._send_file(repository.sha(index), file, files)
        elif verb == "preupload":
            self._json({"files": [_mode(one, files) for one in json.loads(body)["files"]]})
        elif verb == "commit":
            repository.commits.append(self._changed(dict(files), body))
            sha = repository.sha(len(repository.commits) - 1)
            self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})
        else:
            self._refuse(404)

    def _batch(self, wanted):
        found = []
        for one in wanted["objects"]:
            upload = {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}
            is_there = one["oid"] in self.server.objects
            found.append({"oid": one["oid"], "size": one["size"]} | ({} if is_there else {"actions": upload}))
        self._json({"transfer": "basic", "objects": found})

    def _changed(self, files, body):
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        return files

    def _send_file(self, sha, name, files):
        if name not in files:
            return self._refuse(404, {"X-Repo-Commit": sha}, code="EntryNotFound", message="Entry not found")
        data = files[name]
        entry = _entry(name, data)
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "bytes=0-")[1])
        headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        headers |= {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self._send(206 if start else 200, data[start:], headers)

    def _json(self, values, status=200):
        self._send(status, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status, headers=None, *, code=None, message=None):
        headers = dict(headers or {})
        headers |= {"X-Error-Code": code} if code else {}
        headers |= {"X-Error-Message": message} if message else {}
        self._send(status, json.dumps({"error": message or ""}).encode(), headers)

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if (broken := self._break(self.path.partition("?")[0], "GET")) is not None:
            self.wfile.write(body[:broken])
            self._hang_up()
        else:
            self.wfile.write(body)

    def _break(self, path, method):
        """Return after how many bytes the connection breaks; None if it does not."""
        for one in self.server.breaks:
            if self.command == method and one.times > 0 and re.search(one.request, f"{method} {path}"):
                one.times -= 1
                return one.after
        return None

    def _hang_up(self):
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(2)


def _entry(path, data):
    """Describe a file as the Hub's list of files does."""
    entry = {"type": "file", "path": path, "size": len(data)}
    entry["oid"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if not path.endswith(TEXT_FILES):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


def _mode(wanted, files):
    path = wanted["path"]
    mode = {"path": path, "shouldIgnore": False, "uploadMode": "regular" if path.endswith(TEXT_FILES) else "lfs"}
    if path in files:
        entry = _entry(path, files[path])
        mode["oid"] = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
    return mode


def files_of(folder):
    """Read all files of a folder, by their names in it."""
    folder = Path(folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def serve(**folders):
    """Serve folders as public repositories (``user__name=folder``).

    Yields the server: ``asked`` lists the requests, ``repositories`` maps names to :class:`Repository`, ``objects``
    maps hashes to LFS files, and connections break as ``breaks`` says.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.repositories = {
        name.replace("__", "/"): Repository(commits=[files_of(folder)]) for name, folder in folders.items()
    }
    server.asked, server.objects, server.breaks = [], {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def run_with(server, cache, code, *, token=None, **variables):
    """Run Python code in a process that uses the server as the Hub, with a separate cache."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(Path(__file__).parent)}
    environment |= ({"HF_TOKEN": token} if token else {}) | variables
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def command_line(*arguments, before=""):
    """Return Python code that runs ``speechbrain-ee`` with arguments."""
    words = ["speechbrain-ee", *map(str, arguments)]
    return f"import sys\n{before}\nsys.argv = {words!r}\nfrom speechbrain_ee.cli.app import main\nmain()\n"
