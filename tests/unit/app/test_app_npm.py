# SPDX-License-Identifier: Apache-2.0
"""npm packages are downloaded from the configured registry once, and only with the pinned hash."""

import io
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from speechbrain_ee.app import npm_package, onnxruntime_web
from speechbrain_ee.app.npm_package import NpmPackage, download, integrity_of, read_members, registry
from speechbrain_ee.app.onnxruntime_web import PACKAGE, read_files


def tarball(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


DATA = tarball({"package/a.js": b"a", "package/dist/b.js": b"b"})
TINY = NpmPackage("tiny", "1.2.3", integrity_of(DATA))


@pytest.fixture
def server(monkeypatch):
    """Serve the tarball as a registry does; return the paths that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200 if self.path.endswith(f"/tiny/-/{TINY.file}") else 404)
            self.end_headers()
            self.wfile.write(DATA)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, args=[0.02], daemon=True).start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{served.server_port}/npm")
        yield asked
        served.shutdown()


def test_a_package_is_downloaded_once(server, tmp_path):
    path = download(TINY, tmp_path / "cache")
    assert path.read_bytes() == DATA
    assert download(TINY, tmp_path / "cache") == path
    assert server == ["/npm/tiny/-/tiny-1.2.3.tgz"]
    assert read_members(path, TINY, ["dist/b.js"]) == {"dist/b.js": b"b"}


def test_a_damaged_download_is_fetched_again(server, tmp_path):
    (tmp_path / TINY.file).write_bytes(DATA[:-1])
    assert download(TINY, tmp_path).read_bytes() == DATA


def test_a_package_with_another_hash_is_not_stored(server, tmp_path):
    other = TINY._replace(integrity=integrity_of(b"other"))
    with pytest.raises(ValueError, match=re.escape("tiny-1.2.3.tgz is not tiny 1.2.3: its SHA-512 differs")):
        download(other, tmp_path)
    assert not list(tmp_path.iterdir())


def test_errors_name_the_address_and_what_to_do(server, tmp_path, monkeypatch):
    with pytest.raises(OSError, match=r"cannot download none 1\.0 from http://127.*none-1\.0\.tgz: Not Found"):
        download(NpmPackage("none", "1.0", "sha512-"), tmp_path)
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1/")
    monkeypatch.setattr(npm_package, "cache_folder", lambda: tmp_path)
    with pytest.raises(OSError, match=r"refused.*give --onnxruntime-web onnxruntime-web-1\.30\.0\.tgz, which npm pack"):
        read_files()


def test_members_of_a_tarball(tmp_path):
    (tmp_path / "tiny.tgz").write_bytes(DATA)
    with pytest.raises(ValueError, match="has no file c.js: tiny 1.2.3 is needed"):
        read_members(tmp_path / "tiny.tgz", TINY, ["c.js"])
    with pytest.raises(ValueError, match="none.tgz: no such file or folder"):
        read_members(tmp_path / "none.tgz", TINY, ["a.js"])
    with pytest.raises(ValueError, match=re.escape(f"is not {PACKAGE.name} {PACKAGE.version}: its SHA-512 differs")):
        read_files(tmp_path / "tiny.tgz")


def test_a_folder_of_another_version_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no file dist/ort.wasm.min.mjs: give a folder with onnxruntime-web 1"):
        read_files(tmp_path)
    for file in onnxruntime_web.FILES.values():
        (tmp_path / "dist").mkdir(exist_ok=True)
        (tmp_path / file.source).write_bytes(b"of another version")
    with pytest.raises(ValueError, match=r"dist/ort\.wasm\.min\.mjs is not that of onnxruntime-web 1\.30\.0"):
        read_files(tmp_path)


def test_the_registry_is_that_of_npm(monkeypatch):
    monkeypatch.setenv("npm_config_registry", "https://npm.example")
    assert registry() == "https://npm.example/"
    monkeypatch.delenv("npm_config_registry")
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    monkeypatch.setattr(npm_package.shutil, "which", lambda _: None)
    with pytest.raises(OSError, match="install npm, or set npm_config_registry"):
        registry()
