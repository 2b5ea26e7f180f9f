# SPDX-License-Identifier: Apache-2.0
"""Make a bundle: the folder that is published, from a run folder. The same run gives the same bytes."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ee_runtime.calibration.file import write_calibration
from ee_runtime.files import make_folder, parse_json, read_bytes, write_whole
from speechbrain_ee.export.export import export_model
from speechbrain_ee.hub.card import CARD_FILE, CardFacts, ModelFacts, model_card
from speechbrain_ee.hub.contents import ContentsError, check_contents, check_private, private_words, write_contents
from speechbrain_ee.hub.stock import NotStock, write_stock
from speechbrain_ee.hub_download import ONNX_FOLDER
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.model.folder import CONFIG_FILE, MODEL_FILES, load_config

LICENSE_FILE = "LICENSE"
RESULT_FILES = ("exits.json", "exits.png")
OWN_LICENSE = "apache-2.0"
MAX_EXITS_BYTES = 2**24


class Bundle(NamedTuple):
    """What was written.

    Arguments
    ---------
    sizes : dict[str, int]
        Size in bytes of every file by its name in the folder.
    sets : list[str]
        Evaluated sets whose results are in the bundle.
    stock : tuple[str, int] | str
        SpeechBrain's class and the exit layer that it runs, or why there is none.
    """

    sizes: dict[str, int]
    sets: list[str]
    stock: tuple[str, int] | str


def make_bundle(
    run: str | Path,
    out: str | Path,
    *,
    author: CardFacts,
    layer: int | None = None,
    sets: Sequence[str] | None = None,
    onnx: str | None = None,
    license_file: str | Path | None = None,
) -> Bundle:
    """Write a bundle of a trained model.

    The folder is written next to ``out`` and renamed at the end, so an error leaves nothing behind.

    Arguments
    ---------
    run : str | Path
        Run folder or model folder.
    out : str | Path
        Folder to write; an unchanged bundle that is there is replaced.
    author : CardFacts
        What the author says about the model.
    layer : int | None
        Exit layer that plain SpeechBrain runs; None means the last one.
    sets : Sequence[str] | None
        Names of evaluated sets in ``eval/``; None means all.
    onnx : str | None
        ``fp32`` or ``int8`` writes ONNX graphs into ``onnx/``; None writes none.
    license_file : str | Path | None
        Text of the licence; None means that of Apache-2.0.

    Returns
    -------
    Bundle
        What was written.

    Raises
    ------
    ValueError
        If the model cannot be loaded, a set was evaluated with another model or incompletely, the licence has no text,
        ``out`` holds something else, or a file would publish a path of this machine.
    """
    run, out = Path(run), Path(out)
    _check_out(out)
    license_text = _license_text(author.license, license_file)
    asr = EarlyExitASR.from_hparams(run, run_opts={"device": "cpu"})
    results = read_results(run, asr.fingerprint, sets)
    with _new_folder(out) as folder:
        for name in MODEL_FILES:
            write_whole(folder / name, (run / name).read_bytes())
        if asr.calibration is not None:
            write_calibration(folder, asr.calibration)
        for name in results:
            for file in RESULT_FILES:
                (folder / "eval" / name).mkdir(parents=True, exist_ok=True)
                write_whole(folder / "eval" / name / file, (run / "eval" / name / file).read_bytes())
        stock = _write_stock(folder, asr, layer or asr.exit_layers[-1])
        if onnx is not None:
            export_model(asr, folder / ONNX_FOLDER, int8=onnx == "int8")
        write_whole(folder / LICENSE_FILE, license_text)
        facts = ModelFacts(
            config=load_config(folder / CONFIG_FILE),
            results=results,
            calibration=asr.calibration,
            stock=stock,
            onnx=onnx,
        )
        write_whole(folder / CARD_FILE, model_card(author, facts).encode())
        check_private(folder, private_words(run))
        write_contents(folder)
    return Bundle(sizes=check_contents(out), sets=list(results), stock=stock)


def read_results(run: str | Path, model: str, sets: Sequence[str] | None = None) -> dict[str, dict]:
    """Read the ``exits.json`` of evaluated sets.

    Arguments
    ---------
    run : str | Path
        Run folder.
    model : str
        Fingerprint of the model; results of another model are refused.
    sets : Sequence[str] | None
        Names of the sets; None means all.

    Returns
    -------
    dict[str, dict]
        Contents of ``exits.json`` by the name of the set.

    Raises
    ------
    ValueError
        If a set does not exist, is of another model, or lacks utterances.
    """
    there = sorted(path.parent.name for path in (Path(run) / "eval").glob("*/exits.json"))
    wanted = there if sets is None else list(dict.fromkeys(sets))
    found = {}
    for name in wanted:
        if name not in there:
            raise ValueError(f"{run} has no evaluated set {name}: choose from {', '.join(there) or 'none'}")
        path = Path(run) / "eval" / name / "exits.json"
        exits = parse_json(read_bytes(path, max_bytes=MAX_EXITS_BYTES))
        remedy = "evaluate the set again, or choose other sets with --test-set"
        if exits.get("model") != model:
            raise ValueError(f"{path} has the results of another model: {remedy}")
        if missing := exits.get("missing"):
            raise ValueError(f"{path} lacks {len(missing)} utterances that could not be evaluated: {remedy}")
        found[name] = exits
    return found


def _write_stock(folder: Path, asr: EarlyExitASR, layer: int) -> tuple[str, int] | str:
    try:
        return write_stock(folder, asr.mods, layer, tokenizer=asr.tokenizer.path), layer
    except NotStock as error:
        return str(error)


def _license_text(name: str, file: str | Path | None) -> bytes:
    if file is not None:
        return Path(file).read_bytes()
    if name != OWN_LICENSE:
        raise ValueError(f"licence {name}: give its text with --license-file (only that of {OWN_LICENSE} is built in)")
    return Path(__file__).with_name(f"{OWN_LICENSE}.txt").read_bytes()


def _check_out(out: Path) -> None:
    """Check that the folder can be replaced: it is new, empty, or an unchanged bundle."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ValueError(f"{out} is not a folder: give another --out")
    if out.is_dir() and any(out.iterdir()):
        try:
            check_contents(out)
        except ContentsError as error:
            raise ValueError(f"{out} is not replaced, because {error.what}: give another --out") from None


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``out`` at the end; after an error it is removed."""
    make_folder(out.parent)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    folder, before = temporary / "new", temporary / "before"
    try:
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(before)
        folder.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
