#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run the page of a model in headless Chromium and compare it with the Python runtime.

    python benchmarks/browser.py results/conformer_ee/1234 --manifest data/synthetic/test.jsonl --out browser

needs Chromium, and the packages that tests/web_packages.py downloads. Three parts:

* Text and exit of recordings in the page, against those of `EarlyExitRuntime` with the same policy; times to an early
  exit and to full depth.
* Texts of the fake microphone of Chromium, which plays a recording, against those of the runtime for what the page has
  recorded, and for the file: the recording has silence around the file, and another sample rate on the way.
* Faults that axe-core finds, and screenshots (--out).

The figures are written to benchmarks/results/browser.json.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import publish
from playwright.sync_api import Browser, Page, sync_playwright

from ee_runtime import EarlyExitRuntime
from speechbrain_ee.app.build import MODEL_FOLDER, build_site
from speechbrain_ee.app.npm_package import NpmPackage, download, read_members
from speechbrain_ee.app.onnxruntime_web import PACKAGE
from speechbrain_ee.app.serve import make_server
from speechbrain_ee.corpora.manifest import read_manifest

AXE = NpmPackage(
    "axe-core",
    "4.14.1",
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
TIMEOUT_MS = 120_000


def main() -> None:
    """Read the command line and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="run folder or export")
    parser.add_argument("--manifest", type=Path, required=True, help="test manifest")
    parser.add_argument("--num", type=int, default=20, help="recordings")
    parser.add_argument("--spoken", type=int, default=5, help="recordings for the fake microphone")
    parser.add_argument("--early", type=int, default=2, help="exit layer of the early times")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds over the recordings")
    parser.add_argument("--out", type=Path, help="folder for screenshots")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = Path(folder) / "site"
        for line in build_site(arguments.model, site):
            print(line)
        files = [Path(one.audio_filepath) for one in read_manifest(arguments.manifest)[: arguments.num]]
        figures = measure(playwright, arguments, site, files)
    publish("browser", figures)


def measure(playwright, arguments: argparse.Namespace, site: Path, files: list[Path]) -> dict:
    """Return all figures."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    app = json.loads((site / "app.json").read_text("utf-8"))
    runtime = runtime_of(arguments.model, site, app)
    with served(site) as address, browser(playwright, executable, None) as chromium:
        version = chromium.version
        page = open_page(chromium, address, "desktop")
        pairs = [compare(page, runtime, app, path) for path in files]
        faults = {name: look(chromium, address, name, files[0], arguments.out) for name in SIZES}
    layers = app["model"]["exit_layers"]
    with served(static_site(runtime, site)) as address, browser(playwright, executable, None) as chromium:
        points = {"early": layers.index(arguments.early), "full": len(layers) - 1}
        times = time_exits(open_page(chromium, address, "desktop"), files, points, arguments.rounds)
    microphone = []
    for path, pair in zip(files[: arguments.spoken], pairs, strict=False):
        with served(site) as address, browser(playwright, executable, path) as chromium:
            text, recording = listen(open_page(chromium, address, "phone", bypass_csp=True), pair["seconds"])
        (site.parent / "recording.wav").write_bytes(recording)
        expected = runtime.transcribe_file(site.parent / "recording.wav").text
        of_file = pair["runtime"]["text"]
        microphone.append({"file": path.name, "page": text, "runtime": expected, "runtime_of_file": of_file})
    return {
        "chromium": version,
        "onnxruntime_web": PACKAGE.version,
        "num_files": len(pairs),
        "same_text": sum(one["page"]["text"] == one["runtime"]["text"] for one in pairs),
        "same_exit": sum(one["page"]["layer"] == one["runtime"]["layer"] for one in pairs),
        "same_macs": sum(one["page"]["macs"] == one["runtime"]["macs"] for one in pairs),
        "seconds_per_file": times | {"early_layer": arguments.early, "threads": 1, "rounds": arguments.rounds},
        "mean_audio_s": round(statistics.mean(one["seconds"] for one in pairs), 2),
        "microphone_files": len(microphone),
        "microphone_same_text": sum(one["page"] == one["runtime"] for one in microphone),
        "microphone_same_text_as_file": sum(one["page"] == one["runtime_of_file"] for one in microphone),
        "axe": {"version": AXE.version} | faults,
        "files": pairs,
        "microphone": microphone,
    }


def runtime_of(model: str, site: Path, app: dict) -> EarlyExitRuntime:
    """Return the Python runtime with the graphs and the policy of the page."""
    folder = site.parent / "runtime"
    source = Path(model)
    if not (source / "export.json").exists():
        from speechbrain_ee.export.folder import export_folder

        list(export_folder(model, folder))
        source = folder
    runtime = EarlyExitRuntime(source, decoding="ctc", threads=1)
    for name in app["files"]:
        if (
            name.startswith(f"{MODEL_FOLDER}/")
            and (site / name).read_bytes() != (source / Path(name).name).read_bytes()
        ):
            raise ValueError(f"{name} is not the graph of {source}: export the model again")
    return runtime


def static_site(runtime: EarlyExitRuntime, site: Path) -> Path:
    """Write the page of the same model without its calibration: the points of its slider are static exits."""
    model, out = site.parent / "uncalibrated", site.parent / "static"
    shutil.copytree(runtime.export.folder, model, ignore=shutil.ignore_patterns("calibration.json", "eval"))
    list(build_site(model, out))
    return out


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve the page; yield its address."""
    with make_server(site, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def browser(playwright, executable: str, microphone: Path | None) -> Iterator[Browser]:
    """Start Chromium, whose microphone plays a recording, if one is given."""
    flags = list(FLAGS)
    if microphone is not None:
        flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        flags += [f"--use-file-for-fake-audio-capture={microphone.absolute()}%noloop"]
    started = playwright.chromium.launch(executable_path=executable, args=flags)
    yield started
    started.close()


def open_page(chromium: Browser, address: str, size: str, **options) -> Page:
    """Open the page and wait for its model; options of the browser's context can be given."""
    width, height = SIZES[size]
    context = chromium.new_context(viewport={"width": width, "height": height}, locale="en", **options)
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page


def recognise(page: Page, path: Path) -> dict:
    """Give the page a file; return what it shows."""
    page.evaluate("delete document.body.dataset.done")
    page.set_input_files("#file", path)
    page.wait_for_selector("body[data-done]")
    return json.loads(page.evaluate("document.body.dataset.done"))


def compare(page: Page, runtime: EarlyExitRuntime, app: dict, path: Path) -> dict:
    """Return text, exit and cost of a recording in the page and in the runtime."""
    shown, expected = recognise(page, path), runtime.transcribe_file(path)
    layers = [app["model"]["exit_layers"][part["exitIndex"]] for part in shown["results"]]
    return {
        "file": path.name,
        "seconds": round(sum(len(part) for part in runtime.read_parts(path)) / runtime.sample_rate, 3),
        "page": {
            "text": shown["text"],
            "layer": max(layers),
            "macs": sum(part["macs"] for part in shown["results"]),
        },
        "runtime": {"text": expected.text, "layer": expected.exit_layer, "macs": expected.macs},
    }


def time_exits(page: Page, files: list[Path], points: dict[str, int], rounds: int) -> dict:
    """Return the median seconds per file at points of the slider, which alternate, after a round to warm up."""
    page.uncheck("#compare")
    found = {name: [] for name in points}
    recognise(page, files[0])
    for _ in range(1 + rounds):
        for name, point in points.items():
            page.fill("#slider", str(point))  # recognises the last recording again
            page.wait_for_selector("body[data-done]")
            total = sum(part["ms"] for path in files for part in recognise(page, path)["results"])
            found[name].append(total / len(files) / 1000)
    return {name: round(statistics.median(seconds[1:]), 4) for name, seconds in found.items()}


def look(chromium: Browser, address: str, size: str, path: Path, out: Path | None) -> dict:
    """Return the number of faults that axe-core finds, by impact, before and after a recording; take screenshots."""
    page = open_page(chromium, address, size)
    script = read_members(download(AXE), AXE, ["axe.min.js"])["axe.min.js"].decode()
    found: dict[str, int] = {}
    for state in ("new", "used"):
        page.emulate_media(color_scheme="light")
        if state == "used":
            recognise(page, path)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=out / f"{size}-{state}.png", full_page=True)
        page.evaluate(script)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for violation in page.evaluate("axe.run().then((result) => result.violations)"):
                found[violation["impact"]] = found.get(violation["impact"], 0) + len(violation["nodes"])
                print(size, state, scheme, violation["id"], [node["target"] for node in violation["nodes"]])
    width = page.evaluate("document.documentElement.scrollWidth")
    return {"faults": found, "scrolls_sideways": width > SIZES[size][0]}


def listen(page: Page, seconds: float) -> tuple[str, bytes]:
    """Record with the fake microphone, which plays a recording once; return the text, and what was recorded (WAV)."""
    page.context.grant_permissions(["microphone"])
    page.click("#record")
    page.wait_for_selector("#record.recording")
    page.wait_for_timeout(1000 * seconds)
    page.click("#record")
    page.wait_for_selector("body[data-done]")
    read = """() => fetch(document.getElementById("player").src).then((reply) => reply.arrayBuffer()).then((data) =>
        btoa(Array.from(new Uint8Array(data), (byte) => String.fromCharCode(byte)).join("")))"""
    return json.loads(page.evaluate("document.body.dataset.done"))["text"], b64decode(page.evaluate(read))


if __name__ == "__main__":
    main()
