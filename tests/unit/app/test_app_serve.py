# SPDX-License-Identifier: Apache-2.0
"""The server answers this computer only, with the types and headers that the page needs."""

import http.client
import socket
import threading

import pytest

from speechbrain_ee.app.serve import make_server


@pytest.fixture
def port(tmp_path):
    site = tmp_path / "site"
    (site / "model").mkdir(parents=True)
    for name in ("index.html", "main.js", "a.wasm", "model/x.onnx"):
        (site / name).write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"secret")
    with make_server(site, 0) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield server.server_port
        server.shutdown()


def get(port, path, host=None, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    reply = connection.getresponse()
    return reply.status, reply.headers, reply.read()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/main.js", "text/javascript; charset=utf-8"),
        ("/a.wasm", "application/wasm"),
        ("/model/x.onnx", "application/octet-stream"),
    ],
)
def test_files_have_types_and_headers(port, path, kind):
    status, headers, body = get(port, path)
    assert (status, headers["Content-Type"], body) == (200, kind, b"content")
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/model/", "/../secret", "/%2e%2e/secret", "/none"])
def test_nothing_else_is_found(port, path):
    assert get(port, path)[0] == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:9", 200), ("127.0.0.1", 200), ("evil.example", 403), ("127.0.0.1.evil.example:80", 403)],
)
def test_only_names_of_this_computer_are_answered(port, host, status):
    assert get(port, "/", host)[0] == status


def test_only_reading_is_allowed(port):
    assert get(port, "/", method="POST")[0] == 501


def test_a_port_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot use port {number} .*: give another one with --port"):
            make_server(tmp_path, number)
