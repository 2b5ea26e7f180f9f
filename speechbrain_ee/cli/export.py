# SPDX-License-Identifier: Apache-2.0
"""``speechbrain-ee export``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ee.cli.options import RevisionOption
from speechbrain_ee.startup import prepare_process


def export(
    model: Annotated[str, typer.Argument(help="Run folder, model folder, or name on the HuggingFace Hub.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    exits: Annotated[
        str | None, typer.Option(help="Exit layers to keep, e.g. 2,4,6; layers above the last are left out.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise the layers to 8 bits; calibrate again.")] = False,
    truncate: Annotated[
        int | None,
        typer.Option(help="Write a PyTorch model of the first layers up to this exit instead of ONNX graphs."),
    ] = None,
    revision: RevisionOption = None,
) -> None:
    """Write ONNX graphs, one per segment and exit, which ee-transcribe runs without torch.

    With --truncate, write a smaller model folder for PyTorch instead.
    """
    prepare_process()
    from speechbrain_ee.export.folder import export_folder

    try:
        layers = None if exits is None else [int(layer) for layer in exits.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--exits {exits}: give layers with commas between them, e.g. 2,4,6") from None
    if truncate is not None and (layers is not None or int8):
        raise typer.BadParameter("--truncate writes a PyTorch model: leave out --exits and --int8")
    for line in export_folder(model, out, exits=layers, truncate=truncate, int8=int8, revision=revision):
        print(line, file=sys.stderr)
