# SPDX-License-Identifier: Apache-2.0
"""The command ``speechbrain-ee bundle``: make the folder that is published."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ee.cli.options import PROGRAM
from speechbrain_ee.startup import prepare_process


def bundle(
    run: Annotated[Path, typer.Argument(help="Run folder or model folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an unchanged bundle is replaced.")],
    layer: Annotated[
        int | None,
        typer.Option("--exit", help="Exit layer that SpeechBrain's own classes run; default: the last one."),
    ] = None,
    test_set: Annotated[
        list[str] | None,
        typer.Option(help="Evaluated set (a folder in RUN/eval) whose results are published; default: all."),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Include ONNX graphs, which run without torch.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise the ONNX graphs to 8 bits.")] = False,
    hub_name: Annotated[
        str | None, typer.Option(help="Name on the Hub, for the examples of the card; default: USER/ and the folder.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the model card; default: the name.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="Code of a language of the model, such as en.")] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Training data and their licence, NAME=LICENCE, such as openslr/librispeech_asr=cc-by-4.0."),
    ] = None,
    license_name: Annotated[
        str, typer.Option("--license", help="Licence of the model, by its identifier on the Hub.")
    ] = "apache-2.0",
    license_file: Annotated[Path | None, typer.Option(help="Text of the licence; not needed for apache-2.0.")] = None,
) -> None:
    """Make a folder with everything that is published of a model, and with a model card.

    The folder holds the model, its calibration, tables and plots of evaluated sets, and one exit as a stock
    SpeechBrain model; no checkpoints, no texts, no paths of this machine. Publish it with speechbrain-ee push.
    """
    if not run.is_dir():
        raise ValueError(f"{run}: no such folder; give the run folder of train.py, or a model folder")
    if int8 and not onnx:
        raise typer.BadParameter("--int8 quantises ONNX graphs: give --onnx too")
    datasets = dict(_name_and_licence(one) for one in dataset or [])
    prepare_process()
    if onnx and find_spec("onnxscript") is None:
        raise ImportError("--onnx needs onnx and onnxscript: pip install -e '.[onnx]'")
    from speechbrain_ee.hub.bundle import make_bundle
    from speechbrain_ee.hub.card import CardFacts

    author = CardFacts(
        hub_name=hub_name or f"USER/{out.resolve().name}",
        title=title,
        languages=language or [],
        datasets=datasets,
        license=license_name,
    )
    made = make_bundle(
        run,
        out,
        author=author,
        layer=layer,
        sets=test_set,
        onnx=("int8" if int8 else "fp32") if onnx else None,
        license_file=license_file,
    )
    if hub_name is None:
        print(f"warning: the examples of the model card are for {author.hub_name}: give --hub-name", file=sys.stderr)
    for missing in author.lacks():
        print(f"warning: the model card does not say {missing}", file=sys.stderr)
    if isinstance(made.stock, str):
        print(f"note: SpeechBrain's own classes cannot load this bundle: {made.stock}", file=sys.stderr)
    sets = ", ".join(made.sets) or "none"
    size = sum(made.sizes.values()) / 1e6
    print(f"{out}: {len(made.sizes)} files, {size:.1f} MB, results of: {sets}", file=sys.stderr)
    print(f"{out}: publish with {PROGRAM} push {out} {author.hub_name}", file=sys.stderr)


def _name_and_licence(text: str) -> tuple[str, str | None]:
    name, _, licence = text.partition("=")
    if not name.strip():
        raise typer.BadParameter(f"--dataset {text}: give NAME=LICENCE, such as openslr/librispeech_asr=cc-by-4.0")
    return name.strip(), licence.strip() or None
