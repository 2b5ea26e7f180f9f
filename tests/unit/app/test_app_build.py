# SPDX-License-Identifier: Apache-2.0
"""The folder of the page, and the page in a browser: it gives the texts and exits of the Python runtime."""

import hashlib
import json
import re
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import soundfile
from huggingface_hub import RepoCard
from runtime.bench.tiny_export import write_export
from web_packages import AXE, PACKAGE, cached

from ee_runtime import EarlyExitRuntime
from ee_runtime.calibration.file import write_calibration
from ee_runtime.policies import FixedExit, ScoreThreshold, TokenBucket
from speechbrain_ee.app import onnxruntime_web
from speechbrain_ee.app.build import build_site
from speechbrain_ee.app.model_files import page_model
from speechbrain_ee.app.npm_package import read_members
from speechbrain_ee.app.onnxruntime_web import VendoredFile
from speechbrain_ee.app.serve import make_server
from speechbrain_ee.cli import app as cli

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
RATE, LONGEST_S, NUM_SHORT = 16000, 12.0, 6
NAMES = [f"{seed}.wav" for seed in range(NUM_SHORT)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return an export that is calibrated so that recordings stop at both exits, with recordings; one is long."""
    folder = tmp_path_factory.mktemp("app")
    write_export(folder / "export", max_part_s=LONGEST_S)
    for seed, name in enumerate([*NAMES, "long.wav"]):
        seconds = 40 if name == "long.wav" else 0.5 + seed / 4
        samples = np.random.default_rng(seed).standard_normal(int(seconds * RATE)) / (10 + 8 * seed)
        soundfile.write(folder / name, samples, RATE)
    never = EarlyExitRuntime(folder / "export", policy=ScoreThreshold("entropy", -1.0), threads=1)
    values = []
    for name in NAMES:
        run, _ = never.start(never.make_batch(list(never.read_parts(folder / name))))
        run.advance()
        values.append(run.scores(run.output(), None, ["entropy"])[0]["entropy"])
    values.sort()
    policy = ScoreThreshold("entropy", (values[NUM_SHORT // 2 - 1] + values[NUM_SHORT // 2]) / 2)
    fitted = {"test_set": "dev", "num_utterances": 6, "wer": 1.0, "full_wer": 0.5, "mean_layer": 1.5}
    write_calibration(folder / "export", {"policy": policy.to_dict(), "promise": None, "fitted_on": fitted})
    return folder


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a folder with files that stand for those of onnxruntime-web; no browser runs them here."""
    files = {}
    for name, file in onnxruntime_web.FILES.items():
        path = tmp_path / "package" / file.source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        files[name] = VendoredFile(file.source, hashlib.sha256(name.encode()).hexdigest())
    monkeypatch.setattr(onnxruntime_web, "FILES", files)
    return tmp_path / "package"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_page_is_complete_and_the_same_every_time(folders, package, tmp_path):
    lines = list(build_site(folders / "export", tmp_path / "a", title="A <b> & c", onnxruntime_web=package))
    assert re.fullmatch(r".*a: \d+ files, [\d.]+ MB, of which the model has [\d.]+ MB", lines[-1])
    list(build_site(folders / "export", tmp_path / "b" / "c", title="A <b> & c", onnxruntime_web=package))
    files = contents(tmp_path / "a")
    assert files == contents(tmp_path / "b" / "c")
    app = json.loads(files["app.json"])
    assert set(app["files"]) | {"app.json"} == set(files)
    for name, entry in app["files"].items():
        assert entry == {"bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
    assert [point["name"] for point in app["points"]] == ["layer 1", "calibrated", "all layers"]
    assert app["default_point"] == 1
    assert app["error_rate"] == "WER" and [point["error_rate"] for point in app["points"]] == [None, 1.0, 0.5]
    page = files["index.html"].decode()
    assert "<h1>A &lt;b&gt; &amp; c</h1>" in page
    assert "<!--" not in page.replace("<!-- SPDX-License-Identifier: Apache-2.0 -->", "")
    assert 'BUILD";' not in files["service-worker.js"].decode()
    card = RepoCard(files["README.md"].decode()).data.to_dict()
    assert (card["sdk"], card["title"], card["app_file"]) == ("static", "A <b> & c", "index.html")


def test_the_page_names_no_other_host_and_no_folder(folders, package, tmp_path):
    list(build_site(folders / "export", tmp_path / "site", onnxruntime_web=package))
    for name, data in contents(tmp_path / "site").items():
        assert str(tmp_path).encode() not in data
        hosts = set(re.findall(rb"https?://[\w.-]+", data))
        assert hosts <= {b"http://www.w3.org"}, name  # the namespace of SVG


def test_an_earlier_page_is_replaced_and_other_files_are_kept(folders, package, tmp_path):
    out = tmp_path / "site"
    (out / ".git").mkdir(parents=True)
    (out / ".git" / "HEAD").write_text("ref")
    (out / "README.md").write_text("of a new Space")
    list(build_site(folders / "export", out, onnxruntime_web=package))
    first = contents(out)
    (out / "own.txt").write_text("of the user")
    app = json.loads((out / "app.json").read_text())
    (out / "model" / "segment9.onnx").write_text("of a deeper model")
    app["files"] |= {"model/segment9.onnx": {}, "../outside": {}}
    (tmp_path / "outside").write_text("not of the page")
    (out / "app.json").write_text(json.dumps(app))
    list(build_site(folders / "export", out, onnxruntime_web=package))
    assert contents(out) == first | {"own.txt": b"of the user"}
    assert (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": ""}, r"is not empty and holds no page \(notes.txt\): give a new folder"),
        ({"app.json": "{}"}, "has an app.json that is not of a page"),
        ({"app.json": "[" * 9000}, "has an app.json that is not of a page"),
    ],
)
def test_a_folder_with_other_files_is_refused(folders, package, tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        list(build_site(folders / "export", tmp_path / "out", onnxruntime_web=package))
    assert set(contents(tmp_path / "out")) == set(files)


def test_a_model_that_the_page_cannot_run_is_refused_and_nothing_is_written(folders, package, tmp_path):
    export = tmp_path / "export"
    shutil.copytree(folders / "export", export)
    policy = TokenBucket(ScoreThreshold("entropy", 0.1), macs_per_s=1, capacity=1)
    write_calibration(export, {"policy": policy.to_dict(), "promise": None})
    with pytest.raises(ValueError, match="cannot run the exit policy 'token_bucket'"):
        list(build_site(export, tmp_path / "out", onnxruntime_web=package))
    (export / "calibration.json").unlink()
    (export / "segment1.onnx").write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"segment1\.onnx has 7 bytes"):
        list(build_site(export, tmp_path / "out", onnxruntime_web=package))
    assert not (tmp_path / "out").exists()


def test_a_bundle_has_its_export_in_a_folder(folders, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(folders / "export", bundle / "onnx")
    (bundle / "config.json").write_text("{}")
    with page_model(bundle) as model:
        assert model.export.folder == bundle / "onnx"
        assert model.policy.threshold == page_threshold(folders)


def page_threshold(folders):
    return json.loads((folders / "export" / "calibration.json").read_text())["policy"]["threshold"]


def test_a_model_folder_is_exported_first(folders, package, tmp_path, monkeypatch):
    from speechbrain_ee.export import folder as exporting

    called = []

    def copy(source, out, revision):
        assert revision is None
        called.append(source)
        shutil.copytree(folders / "export", out, dirs_exist_ok=True)
        return iter(())

    monkeypatch.setattr(exporting, "export_folder", copy)  # an export takes seconds, and has its own tests
    list(build_site(folders / "model", tmp_path / "site", onnxruntime_web=package))
    assert called == [folders / "model"]
    assert (tmp_path / "site" / "model" / "segment1.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--out", "x", "--port", "8000"], 2, "--port serves the page and --out writes it: give one of them"),
        (["--out", "x", "--title", ""], 2, "the title must be one line of 1 to 80 characters"),
        (["--port", "70000"], 2, "65535"),
        (["--out", "x", "--onnxruntime-web", "none.tgz"], 1, "none.tgz: no such file or folder"),
    ],
)
def test_a_bad_call_has_one_line(folders, tmp_path, monkeypatch, capsys, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["speechbrain-ee", "app", str(folders / "export"), *arguments])
    with pytest.raises(SystemExit) as raised:
        cli.main()
    assert raised.value.code == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def site(folders):
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    if cached(PACKAGE) is None or cached(AXE) is None:
        pytest.skip("needs npm packages: python tests/web_packages.py")
    list(build_site(folders / "export", folders / "site", onnxruntime_web=cached(PACKAGE)))
    with make_server(folders / "site", 0) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def page(site, folders):
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--use-fake-device-for-media-stream"]
    flags += ["--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={folders / 'long.wav'}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        context = browser.new_context(viewport={"width": 360, "height": 740}, permissions=["microphone"])
        context.set_default_timeout(60_000)
        opened = context.new_page()
        opened.problems = []
        opened.on("pageerror", lambda error: opened.problems.append(str(error)))
        opened.on("console", lambda line: opened.problems.append(line.text) if line.type == "error" else None)
        opened.goto(f"http://127.0.0.1:{site.server_port}/")
        opened.wait_for_selector("body[data-stored]")
        yield opened
        browser.close()


def done(page):
    page.wait_for_selector("body[data-done]")
    return json.loads(page.evaluate("document.body.dataset.done"))


def test_the_page_gives_texts_exits_and_costs_of_the_runtime(page, folders):
    runtime, layers = EarlyExitRuntime(folders / "export", threads=1), set()
    for name in [*NAMES, "long.wav"]:
        page.evaluate("delete document.body.dataset.done")
        page.set_input_files("#file", folders / name)
        found, expected = done(page), runtime.transcribe_file(folders / name)
        parts = expected.parts or [expected]
        assert found["text"] == expected.text
        assert [1 + one["exitIndex"] for one in found["results"]] == [part.exit_layer for part in parts]
        assert sum(one["macs"] for one in found["results"]) == expected.macs
        full = runtime.transcribe_file(folders / name, policy=FixedExit())
        assert " ".join(one["full"]["text"] for one in found["results"]) == full.text
        assert sum(one["fullMacs"] for one in found["results"]) == full.macs
        layers |= {part.exit_layer for part in parts}
        if len(parts) == 1:
            assert page.inner_text("#text") == expected.text
            assert f"Stopped after layer {expected.exit_layer} of 2: " in page.inner_text("#why")
    assert f"cut at pauses into {len(parts)} parts" in page.inner_text("#why")
    assert len(parts) > 3
    assert layers == {1, 2}
    assert page.problems == []


def test_the_slider_recognises_again_with_another_effort(page, folders):
    page.set_input_files("#file", folders / NAMES[0])
    done(page)
    for point, layer in ((0, 1), (2, 2), (1, None)):
        page.evaluate("delete document.body.dataset.done")
        page.fill("#slider", str(point))
        (result,) = done(page)["results"]
        assert layer in (None, 1 + result["exitIndex"])
    assert "(calibrated)" in page.inner_text("#point")


def test_the_microphone_gives_a_text(page):
    page.evaluate("delete document.body.dataset.done")
    page.click("#record")
    page.wait_for_selector("#record.recording")
    page.wait_for_timeout(1500)
    page.click("#record")
    assert len(done(page)["results"]) == 1
    assert page.problems == []


def test_a_file_without_audio_is_named(page, folders):
    page.set_input_files("#file", folders / "export" / "export.json")
    page.wait_for_selector("#input-status.error")
    assert "cannot read export.json" in page.inner_text("#input-status")


def test_the_page_and_its_worker_reach_no_other_host(page):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, args=[0.02], daemon=True).start()
        address = f"http://127.0.0.1:{other.server_port}/"
        options = "{method: 'POST', body: 'audio', mode: 'no-cors'}"
        script = f"fetch({address!r}, {options}).then(() => 'sent', () => 'refused')"
        (worker,) = page.workers
        assert [page.evaluate(script), worker.evaluate(script)] == ["refused", "refused"]
        other.shutdown()
    assert asked == []
    page.problems.clear()  # the browser reports what it has refused


def test_axe_finds_no_fault_and_nothing_is_wider_than_a_phone(page):
    page.evaluate(read_members(cached(AXE), AXE, ["axe.min.js"])["axe.min.js"].decode())
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        violations = page.evaluate("axe.run().then((result) => result.violations.map((one) => [one.id, one.impact]))")
        assert violations == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_page_works_without_a_connection(page, site, folders):
    site.shutdown()  # the last test of this page
    page.context.set_offline(True)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.set_input_files("#file", folders / "0.wav")
    assert done(page)["text"] == EarlyExitRuntime(folders / "export", threads=1).transcribe_file(folders / "0.wav").text
