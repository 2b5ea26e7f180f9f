# SPDX-License-Identifier: Apache-2.0
"""Transcribe files for a command: results to standard output, the policy and errors to standard error."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ee_runtime.audio import AudioError
from ee_runtime.errors import print_error
from ee_runtime.export_folder import ExportError
from ee_runtime.files import printable
from ee_runtime.policies import FixedExit, Policy, ScoreThreshold
from ee_runtime.transcriber import Transcriber
from ee_runtime.transcript import Transcript, Word

logger = logging.getLogger(__name__)


def transcribe_files(
    model: Transcriber, files: Sequence[Path], *, limits: Mapping, as_json: bool, program: str
) -> bool:
    """Print one line per file: ``FILE<tab>TEXT``, or a JSON object. A broken file does not stop the others.

    Arguments
    ---------
    model : Transcriber
        The model.
    files : sequence of Path
        Audio files.
    limits : mapping
        Limits of :meth:`Transcriber.transcribe_waveforms`; with ``deadline_ms`` the machine is timed first.
    as_json : bool
        Print JSON objects.
    program : str
        Start of error lines.

    Returns
    -------
    bool
        Whether all files were transcribed.
    """
    model.check_limits(**limits)
    if limits.get("deadline_ms") is not None:
        model.time_exits()  # now, so that it does not count as time of the first file
    print_policy(model, limits)
    all_done = True
    for file in files:
        begin = time.perf_counter()
        try:
            result = model.transcribe_file(file, **limits)
        except ExportError:  # of the model, and not of the file
            raise
        except (ValueError, OSError, RuntimeError, MemoryError) as error:  # continue with the other files
            logger.debug("%s failed", printable(file), exc_info=True)
            print_error(program, file_error(file, error))
            all_done = False
            continue
        seconds = round(time.perf_counter() - begin, 4)
        row = {"file": str(file)} | result_row(result, seconds=seconds)
        print(_json_line(row) if as_json else f"{printable(file)}\t{result.text}", flush=True)
    return all_done


def policy_of_options(layer: int | None, entropy: float | None, full: bool) -> Policy | None:
    """Return the policy of ``--layer``, ``--entropy`` or ``--full``; None for that of the model."""
    if layer is not None or full:
        return FixedExit(layer)
    return None if entropy is None else ScoreThreshold("entropy", entropy)


def print_policy(model: Transcriber, limits: Mapping) -> None:
    """Print the policy of a model and the limits to standard error, as JSON without the numbers of a learned score."""
    policy = model.policy.to_dict() | {name: limit for name, limit in limits.items() if limit is not None}
    shown = {name: "..." if name == "learned" else value for name, value in policy.items()}
    print(f"policy: {json.dumps(shown)}", file=sys.stderr)


def result_row(result: Transcript, **more) -> dict:
    """Return a transcript for JSON; words have times and confidences to three decimals.

    Arguments
    ---------
    result : Transcript
        The transcript.
    **more
        Further values, which come before the words.

    Returns
    -------
    dict
        ``text``, ``exit_layer``, ``score``, ``macs``, ``words``, ``expected_wer`` and, if the calibration counts
        characters, ``expected_cer``.
    """
    row = {"text": result.text, "exit_layer": result.exit_layer, "score": result.policy_value, "macs": result.macs}
    row |= more | {"words": [_rounded(word) for word in result.words], "expected_wer": result.expected_wer}
    return row if result.expected_cer is None else row | {"expected_cer": result.expected_cer}


def file_error(file: Path, error: Exception) -> Exception:
    """Return an error that names the file; errors of reading it do already."""
    if isinstance(error, AudioError):
        return error
    name, text = printable(file), str(error)
    if isinstance(error, MemoryError) or re.search("out of memory|t allocate memory", text):
        return ValueError(f"{name}: not enough memory to transcribe it: close other programs, or cut the file")
    return ValueError(f"{name}: {text or type(error).__name__}")


def _json_line(row: dict) -> str:
    """Return a row as JSON without NaN and infinity, and with escapes if standard output cannot show a character."""
    line = json.dumps(without_nan(row), ensure_ascii=False, allow_nan=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(without_nan(row), allow_nan=False)
    return line


def without_nan(value):
    """Replace NaN and infinity, which are not JSON, by null."""
    if isinstance(value, dict):
        return {name: without_nan(one) for name, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rounded(word: Word) -> dict:
    return {name: value if name == "text" else round(value, 3) for name, value in vars(word).items()}
