# SPDX-License-Identifier: Apache-2.0
"""Options and checks that several subcommands share."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ee.decoders.names import DECODINGS

PROGRAM = "speechbrain-ee"
ModelOption = Annotated[str, typer.Option("--model", help="Run folder, bundle, or name on the HuggingFace Hub.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu or cuda; the GPU where there is one.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; OMP_NUM_THREADS, or else the CPUs that this process may use.")
]


Decoding = Enum("Decoding", {name: name for name in DECODINGS}, type=str)

BeamSizeOption = Annotated[
    int | None, typer.Option(help="Of a beam; 50 for CTC, 200 over a lexicon, 10 with attention.")
]
LMOption = Annotated[
    Path | None,
    typer.Option(
        help="KenLM for a CTC beam, for a lexicon the ARPA file; with attention the checkpoint of a TransformerLM."
    ),
]
LMWeightOption = Annotated[float | None, typer.Option(help="Of the language model; 0.5 for KenLM, 0.6 with attention.")]
WordBonusOption = Annotated[
    float | None, typer.Option(help="Per word beside a KenLM, 1.5, over a lexicon 1; more is longer texts.")
]
DecodingOption = Annotated[
    Decoding,
    typer.Option(
        help="greedy or beam, with attention where the model has it; lexicon: CTC beam over the words of --lm; "
        "rescore: CTC beam, then attention; ctc."
    ),
]


def check_folder(run: Path) -> None:
    """Refuse a run folder that is not there."""
    if not run.is_dir():
        raise ValueError(
            f"{run}: no such folder; give a run folder or a bundle, or fetch a model of the Hub into a folder: "
            "hf download USER/MODEL --local-dir FOLDER"
        )


def device_options(device: str | None) -> dict:
    """SpeechBrain's run options for a device; a device that is not here is a wrong call."""
    from speechbrain_ee.startup import check_device

    if device is None:
        return {}
    try:
        check_device(device)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from None
    return {"device": "cuda:0" if device == "cuda" else device}  # SpeechBrain wants the number
