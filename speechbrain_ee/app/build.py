# SPDX-License-Identifier: Apache-2.0
"""Write the page: a folder of static files that any web server can serve, and that is a static HuggingFace Space."""

from __future__ import annotations

import hashlib
import html
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ee_runtime.calibration.summary import promise_sentence
from ee_runtime.files import make_folder, parse_json, printable, read_bytes, write_whole
from ee_runtime.text.error_units import unit_of
from speechbrain_ee import __version__
from speechbrain_ee.app.effort import Point, operating_points
from speechbrain_ee.app.model_files import PageModel, page_model
from speechbrain_ee.app.onnxruntime_web import PACKAGE, read_files
from speechbrain_ee.app.policies import describe, plain, score_table
from speechbrain_ee.app.space import readme

PAGE = Path(__file__).parent / "page"
COPIED = (".css", ".js", ".svg")
APP_FILE, WORKER_FILE = "app.json", "service-worker.js"
KIND = "speechbrain_ee page"  # in app.json: the folder was written by this module
MODEL_FOLDER, VENDORED_FOLDER = "model", "onnxruntime-web"
HIDDEN = ".app-"  # names of temporary folders within the folder
MAX_TITLE = 80
LARGE_MB = 300  # a phone may not have the memory
MAX_APP_BYTES = 16 * 2**20
DEFAULT_TITLE = "Speech recognition in your browser"


def build_site(
    source: str | Path,
    out: str | Path,
    *,
    revision: str | None = None,
    title: str = DEFAULT_TITLE,
    onnxruntime_web: Path | None = None,
    offline: bool = True,
) -> Iterator[str]:
    """Write the page of a model; yield a line about each result.

    The same model gives the same bytes. An earlier page in the folder is replaced; other files in it, such as those of
    a git repository, are kept.

    Arguments
    ---------
    source : str or Path
        The model, see :func:`~speechbrain_ee.app.model_files.page_model`.
    out : str or Path
        Folder to write: new, empty, or with an earlier page.
    revision : str | None
        Branch, tag or commit of a model on the Hub; None means the newest commit.
    title : str
        Title of the page.
    onnxruntime_web : Path | None
        See :func:`~speechbrain_ee.app.onnxruntime_web.read_files`.
    offline : bool
        Whether the page stores itself in the browser, so that it also opens without a connection.

    Raises
    ------
    ValueError
        If the folder holds other files, the title is too long, or the model cannot be used.
    OSError
        If the folder cannot be written, or the registry cannot be reached.
    """
    out = Path(out)
    check_title(title)
    earlier = _earlier_files(out)
    vendored = read_files(onnxruntime_web)
    with page_model(source, revision) as model:
        make_folder(out)
        with tempfile.TemporaryDirectory(dir=out, prefix=HIDDEN) as temporary:
            folder = Path(temporary)
            values = _write(folder, model, vendored, title=title, offline=offline)
            _move(folder, out, earlier)
        yield from model.notes
    size = sum(entry["bytes"] for entry in values["files"].values())
    model_mb = sum(graph.size for graph in model.graphs) / 1e6
    if model_mb > LARGE_MB:
        yield f"the model has {model_mb:.0f} MB: a phone may not have the memory for it"
    yield f"{out}: {len(values['files'])} files, {size / 1e6:.1f} MB, of which the model has {model_mb:.1f} MB"


def check_title(title: str) -> None:
    """Check a title.

    Raises
    ------
    ValueError
        If it is empty, too long, or has control characters.

    Example
    -------
    >>> check_title("A title")
    """
    if not title.strip() or len(title) > MAX_TITLE or printable(title) != title:
        raise ValueError(f"the title must be one line of 1 to {MAX_TITLE} characters, got {title[:100]!r}")


def _earlier_files(out: Path) -> set[str]:
    """Return the files of an earlier page; raise ``ValueError`` if the folder holds anything but a page."""
    if not os.path.lexists(out):
        return set()
    if not out.is_dir():
        raise ValueError(f"{out} is not a folder: give another one")
    try:
        values = parse_json(read_bytes(out / APP_FILE, max_bytes=MAX_APP_BYTES))
        if not isinstance(values, dict) or values.get("kind") != KIND:
            raise ValueError
        return {name for name in values["files"] if _is_inside(name)} | {APP_FILE}
    except FileNotFoundError:
        others = [path.name for path in out.iterdir() if not path.name.startswith((".git", HIDDEN))]
        if others and others != ["README.md"]:  # a new Space on the Hub has one
            raise ValueError(
                f"{out} is not empty and holds no page ({printable(sorted(others)[0])}): give a new folder"
            ) from None
        return set(others)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{out} has an {APP_FILE} that is not of a page: give a new folder") from None


def _is_inside(name: object) -> bool:
    """Whether a name from ``app.json`` is that of a file within the folder; the file could have been changed."""
    return isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts


def _write(folder: Path, model: PageModel, vendored: Mapping[str, bytes], *, title: str, offline: bool) -> dict:
    """Write the page into an empty folder; return the contents of ``app.json``."""
    for sub in (MODEL_FOLDER, VENDORED_FOLDER):
        (folder / sub).mkdir()
    for path in sorted(PAGE.iterdir()):
        if path.suffix in COPIED and path.name != WORKER_FILE:
            write_whole(folder / path.name, path.read_bytes())
    page = (PAGE / "index.html").read_text("utf-8").replace("<!--TITLE-->", html.escape(title))
    write_whole(folder / "index.html", page.encode())
    short = json.dumps({"name": title, **_INSTALLED}, ensure_ascii=False, indent=1)
    write_whole(folder / "manifest.webmanifest", (short + "\n").encode())
    for graph in model.graphs:
        shutil.copyfile(model.export.folder / graph.name, folder / MODEL_FOLDER / graph.name)
    for name, data in vendored.items():
        write_whole(folder / VENDORED_FOLDER / name, data)
    write_whole(folder / VENDORED_FOLDER / "LICENSE", (PAGE / "LICENSE-onnxruntime").read_bytes())
    write_whole(folder / "README.md", readme(title, model).encode())
    values = _values(model, title=title, offline=offline)
    values["files"] = {path: _entry(folder / path) for path in _paths(folder)}
    values["build"] = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
    if offline:
        stored = [name for name in values["files"] if name != "README.md" and not name.endswith("LICENSE")]
        script = (PAGE / WORKER_FILE).read_text("utf-8").replace('"BUILD"', json.dumps(values["build"]))
        script = script.replace('["FILES"]', json.dumps(["./", APP_FILE, *stored]))
        write_whole(folder / WORKER_FILE, script.encode())
        values["files"][WORKER_FILE] = _entry(folder / WORKER_FILE)
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, indent=1)
    write_whole(folder / APP_FILE, (text + "\n").encode())
    return values


_INSTALLED = {
    "start_url": "./",
    "display": "standalone",
    "background_color": "#ffffff",
    "theme_color": "#2f5bb7",
    "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}],
}


def _paths(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _entry(path: Path) -> dict:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _values(model: PageModel, *, title: str, offline: bool) -> dict:
    """Return the contents of ``app.json``, except the list of files."""
    export, calibration = model.export, model.calibration or {}
    points = operating_points(
        model.policy,
        export.exit_layers,
        exit_shares=model.exit_shares,
        calibration=calibration,
        utterances=model.utterances,
    )
    chosen = [number for number, point in enumerate(points) if point.is_calibrated]
    fitted, promise, unit = calibration.get("fitted_on"), calibration.get("promise"), unit_of(calibration)
    return {
        "kind": KIND,
        "version": __version__,
        "title": title,
        "offline": offline,
        "onnxruntime_web": PACKAGE.version,
        "model": {
            "fingerprint": export.model,
            "precision": export.precision,
            "sample_rate": export.sample_rate,
            "max_part_s": export.max_part_s,
            "exit_layers": list(export.exit_layers),
            "params": list(export.params),
            "vocab": export.vocab,
            "score_names": list(export.score_names),
            "cost": export.cost._asdict(),
        },
        "graphs": {
            "features": f"{MODEL_FOLDER}/{export.features.name}",
            "segments": [f"{MODEL_FOLDER}/{graph.name}" for graph in export.segments],
            "exits": [f"{MODEL_FOLDER}/{graph.name}" for graph in export.exits],
            "change": None if model.change is None else f"{MODEL_FOLDER}/{model.change.name}",
        },
        "scores": score_table(point.policy for point in points),
        "points": [_point(point, export.exit_layers) for point in points],
        "default_point": chosen[0] if chosen else len(points) - 1,
        "evaluated_on": (fitted or {}).get("test_set"),
        "error_rate": unit.rate,
        "promise": promise_sentence(promise, unit) if fitted and promise else None,
        "notes": model.notes,
    }


def _point(point: Point, exit_layers: tuple[int, ...]) -> dict:
    return {
        "name": point.name,
        "rule": describe(point.policy, exit_layers),
        "policy": plain(point.policy),
        "macs_share": None if point.macs_share is None else round(point.macs_share, 4),
        "error_rate": None if point.error_rate is None else round(point.error_rate, 2),
    }


def _move(new: Path, out: Path, earlier: set[str]) -> None:
    """Move a new page to its place; the folder has no ``app.json`` until all other files are there."""
    (out / APP_FILE).unlink(missing_ok=True)
    names = _paths(new)
    for name in sorted(earlier - set(names)):
        (out / name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: name == APP_FILE):
        (out / name).parent.mkdir(exist_ok=True)
        (new / name).replace(out / name)
