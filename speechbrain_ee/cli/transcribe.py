# SPDX-License-Identifier: Apache-2.0
"""``speechbrain-ee transcribe``."""

import json
import logging
import math
import re
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ee.audio import AudioError
from speechbrain_ee.cli.options import (
    PROGRAM,
    BeamSizeOption,
    Decoding,
    DecodingOption,
    DeviceOption,
    LMOption,
    LMWeightOption,
    ModelOption,
    ThreadsOption,
    WordBonusOption,
    device_options,
)
from speechbrain_ee.errors import print_error
from speechbrain_ee.files import printable
from speechbrain_ee.startup import prepare_process

logger = logging.getLogger(__name__)


def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Audio files (wav, flac, ogg, mp3, ...) or /dev/stdin.")],
    model: ModelOption,
    layer: Annotated[int | None, typer.Option(help="Always stop at this exit layer.")] = None,
    entropy: Annotated[
        float | None,
        typer.Option(
            help="Stop at the first exit whose mean frame entropy is at most this number between 0 and 1; a higher "
            "number stops earlier."
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Always run all encoder layers.")] = False,
    max_layer: Annotated[int | None, typer.Option(help="Deepest encoder layer that is run.")] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Largest number of MACs per second of audio; an attention decoder is not counted."),
    ] = None,
    deadline_ms: Annotated[
        float | None,
        typer.Option(
            help="Largest time in ms for a file. A file longer than 30 s is cut into parts; the limit then applies to "
            "each group of four parts."
        ),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="A calibration.json of this model; default: the one in the model folder.")
    ] = None,
    decoding: DecodingOption = Decoding.greedy,
    beam_size: BeamSizeOption = None,
    lm: LMOption = None,
    lm_weight: LMWeightOption = None,
    word_bonus: WordBonusOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Transcribe audio files.

    The command prints one line FILE<tab>TEXT per file. The exit policy decides at which exit each file stops. --layer,
    --entropy and --full set the policy. The default is the policy of calibration.json, or full depth if the model has
    no calibration.json.
    """
    prepare_process(threads)
    from speechbrain_ee.inference.asr import EarlyExitASR

    policy = _policy(layer, entropy, full)
    limits = {"max_layer": max_layer, "budget": budget, "deadline_ms": deadline_ms}
    asr = EarlyExitASR.from_hparams(model, calibration_file=calibration, policy=policy, run_opts=device_options(device))
    asr.decoder = asr.make_decoder(
        decoding.value, beam_size=beam_size, lm=lm, lm_weight=lm_weight, word_bonus=word_bonus
    )
    if deadline_ms is not None:
        asr.time_exits()  # now, so that it does not count as time of the first file
    print(f"policy: {_policy_line(asr, limits)}", file=sys.stderr)
    failed = False
    for file in files:
        begin = time.perf_counter()
        try:
            result = asr.transcribe_file(file, **limits)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:  # continue with the other files
            logger.debug("%s failed", printable(file), exc_info=True)
            print_error(PROGRAM, _of_file(file, error))
            failed = True
            continue
        if not as_json:
            print(f"{printable(file)}\t{result.text}", flush=True)
            continue
        row = {"file": str(file), "text": result.text, "exit_layer": result.exit_layer, "score": result.policy_value}
        row |= {"macs": result.macs, "seconds": round(time.perf_counter() - begin, 4)}
        row |= {"words": [_rounded(word) for word in result.words], "expected_wer": result.expected_wer}
        print(_json_line(_without_nan(row)), flush=True)
    if failed:
        raise typer.Exit(1)


def _of_file(file: Path, error: Exception) -> Exception:
    """Return an error that names the file; errors of reading it do already."""
    if isinstance(error, AudioError):
        return error
    name, text = printable(file), str(error)
    if isinstance(error, MemoryError) or re.search("out of memory|t allocate memory", text):
        return ValueError(f"{name}: not enough memory to transcribe it: close other programs, or cut the file")
    return ValueError(f"{name}: {text or type(error).__name__}")


def _json_line(row: dict) -> str:
    """Return a row as JSON, with escapes if standard output cannot show a character."""
    line = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(row, allow_nan=False)
    return line


def _without_nan(value):
    """Replace NaN, which is not JSON, by null."""
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _rounded(word) -> dict:
    return {name: value if name == "text" else round(value, 3) for name, value in vars(word).items()}


def _policy_line(asr, limits: dict) -> str:
    """Return the policy as JSON, without the numbers of a learned score."""
    policy = asr.policy.to_dict() | {name: limit for name, limit in limits.items() if limit is not None}
    return json.dumps({name: "..." if name == "learned" else value for name, value in policy.items()})


def _policy(layer: int | None, entropy: float | None, full: bool):
    from speechbrain_ee.policies import FixedExit, ScoreThreshold

    if sum((layer is not None, entropy is not None, full)) > 1:
        raise typer.BadParameter("give one of --layer, --entropy and --full")
    if layer is not None or full:
        return FixedExit(layer)
    return None if entropy is None else ScoreThreshold("entropy", entropy)
