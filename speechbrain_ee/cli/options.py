# SPDX-License-Identifier: Apache-2.0
"""Options and checks that several commands share."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ee_runtime.text.error_units import UNITS
from speechbrain_ee.decoders.names import DECODINGS
from speechbrain_ee.hub_download import check_no_revision, may_be_on_hub

PROGRAM = "speechbrain-ee"
ModelOption = Annotated[str, typer.Option("--model", help="Export, run folder, model folder, or name on the Hub.")]
RevisionOption = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a model on the Hub; default: the newest commit.")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu or cuda; default: the GPU if there is one.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads; default: OMP_NUM_THREADS if set, otherwise the number of CPUs that this process may use.",
    ),
]


class Runtime(str, Enum):
    """What runs a model."""

    onnx = "onnx"
    torch = "torch"


RuntimeOption = Annotated[
    Runtime | None, typer.Option(help="What runs the model; default: onnx for an export, else torch.")
]

Unit = Enum("Unit", {name: name for name in UNITS}, type=str)
Decoding = Enum("Decoding", {name: name for name in DECODINGS}, type=str)

BeamSizeOption = Annotated[
    int | None,
    typer.Option(
        help="Beam size; default: 50 for a CTC beam, 200 for lexicon, 10 for an attention beam and for rescore."
    ),
]
LMOption = Annotated[
    Path | None,
    typer.Option(
        help="Language model: a KenLM for a CTC beam and for rescore, an ARPA file for lexicon, a TransformerLM for an "
        "attention beam."
    ),
]
LMWeightOption = Annotated[
    float | None,
    typer.Option(
        help="Weight of the language model; default: 0.5 for a KenLM or an ARPA file, 0.6 for a TransformerLM."
    ),
]
WordBonusOption = Annotated[
    float | None,
    typer.Option(
        help="Bonus per word with a KenLM or an ARPA file; default: 1.5 for a CTC beam and rescore, 1 for lexicon. A "
        "higher bonus gives longer texts."
    ),
]
DecodingOption = Annotated[
    Decoding,
    typer.Option(
        help="How the output of an exit becomes text. greedy and beam use the attention decoders if the model has any, "
        "otherwise CTC. lexicon is a CTC beam that outputs only words of --lm. rescore is a CTC beam that is rescored "
        "by the attention decoder. ctc is greedy CTC."
    ),
]


def results_folder(model: str, revision: str | None = None) -> Path:
    """Return the folder of a model's results: the folder of the model, or ``results/user--name`` for a Hub name.

    A folder ``user/name`` would hide the name on the Hub.

    Raises
    ------
    ValueError
        If a revision is given for a folder.

    Example
    -------
    >>> results_folder("user/name", "v1").as_posix()
    'results/user--name@v1'
    """
    if not may_be_on_hub(model):
        check_no_revision(model, revision)
        return Path(model)
    name = model.replace("/", "--") + ("" if revision is None else "@" + revision.replace("/", "--"))
    return Path("results") / name


def evaluated_folder(model: str, revision: str | None = None) -> Path:
    """Return the folder of a model's results, which must exist.

    Raises
    ------
    ValueError
        If it does not exist.
    """
    folder = results_folder(model, revision)
    if folder.is_dir():
        return folder
    if may_be_on_hub(model):
        raise ValueError(
            f"{folder}: there are no results of {model} yet, or no model of this name: run {PROGRAM} evaluate {model} "
            "--manifest FILE first"
        )
    raise ValueError(f"{folder}: no such folder; give a run folder, a model folder or a Hub name (user/model)")


def device_options(device: str | None) -> dict:
    """Return SpeechBrain's run options for a device; a device that does not exist is a usage error."""
    from speechbrain_ee.startup import check_device

    if device is None:
        return {}
    try:
        check_device(device)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from None
    return {"device": "cuda:0" if device == "cuda" else device}  # SpeechBrain needs the number
