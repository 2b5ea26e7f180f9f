# SPDX-License-Identifier: Apache-2.0
"""Options and checks that several commands share."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ee.decoders.names import DECODINGS

PROGRAM = "speechbrain-ee"
ModelOption = Annotated[str, typer.Option("--model", help="Run folder, bundle, or name on the HuggingFace Hub.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu or cuda; default: the GPU if there is one.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads; default: OMP_NUM_THREADS, or else the CPUs that this process may use."),
]


Decoding = Enum("Decoding", {name: name for name in DECODINGS}, type=str)

BeamSizeOption = Annotated[
    int | None, typer.Option(help="Beam size; default: 50 with CTC, 200 with lexicon, 10 with attention.")
]
LMOption = Annotated[
    Path | None,
    typer.Option(
        help="Language model: a KenLM for a CTC beam, an ARPA file for lexicon, a TransformerLM with attention."
    ),
]
LMWeightOption = Annotated[
    float | None, typer.Option(help="Weight of the language model; default: 0.5 for KenLM, 0.6 with attention.")
]
WordBonusOption = Annotated[
    float | None, typer.Option(help="Bonus per word with a KenLM (default: 1.5, lexicon 1); more = longer texts.")
]
DecodingOption = Annotated[
    Decoding,
    typer.Option(
        help="greedy and beam use attention if the model has attention decoders, else CTC; lexicon: CTC beam over the "
        "words of --lm; rescore: CTC beam rescored with attention; ctc: greedy CTC."
    ),
]


def check_folder(run: Path) -> None:
    """Check that a run folder exists."""
    if not run.is_dir():
        raise ValueError(
            f"{run}: no such folder; give a run folder or a bundle, or download a model from the Hub: "
            "hf download USER/MODEL --local-dir FOLDER"
        )


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
