# SPDX-License-Identifier: Apache-2.0
"""Tables and files of an evaluation: ``exits.json``, ``exits.csv``, ``exits.png`` and ``policies.json``.

All are computed from ``utterances.jsonl``. The report page is in :mod:`speechbrain_ee.evaluation.page`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ee_runtime.files import make_folder, write_whole
from ee_runtime.text.error_units import CHAR, WORD, ErrorUnit, counted_in, unit_of, unit_of_lines
from speechbrain_ee.evaluation.plots import draw_exits
from speechbrain_ee.replay import available_scores, replay, sweeps
from speechbrain_ee.text import metrics
from speechbrain_ee.text.bootstrap import bootstrap_ci95

NOT_MEASURED = "not measured"


def write_exits(
    out_dir: str | Path,
    utterances: Sequence[Mapping],
    *,
    test_set: str,
    decoding: str,
    params: Sequence[int] | None,
    rtf: Sequence[float] | None = None,
    rtf_machine: Mapping | None = None,
    model: str | None = None,
    missing: Mapping[str, str] | None = None,
) -> dict:
    """Compute and write exits.json, exits.csv, exits.png and policies.json.

    Arguments
    ---------
    out_dir : str or Path
        Folder of this test set; created if missing.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``; the unit in which they are counted is that of the oracle and the policies.
    test_set : str
        Name of the test set.
    decoding : str
        Name of the decoder, such as ``"greedy CTC"``.
    params : sequence of int, optional
        Number of parameters of the model cut at each exit.
    rtf : sequence of float, optional
        Measured real-time factor up to each exit, on one thread.
    rtf_machine : mapping, optional
        CPU name, threads and GEMM rate of the measurement of ``rtf``; stored as ``"machine"``.
    model : str, optional
        Fingerprint of the model; a calibration is compared with it.
    missing : mapping, optional
        Utterances that could not be evaluated: reason by id.

    Returns
    -------
    dict
        Contents of ``exits.json``. Values that were not measured are None.

    Raises
    ------
    ValueError
        If there are no utterances or reference words, or ``params`` or ``rtf`` lack an exit.
    """
    counts, unit = replay.ExitCounts.of(utterances), unit_of_lines(utterances)
    words, chars = counted_in(utterances, WORD), metrics.counted_in_characters(utterances)
    _check_per_exit("params", params, counts.exit_layers)
    _check_per_exit("rtf", rtf, counts.exit_layers)
    durations = [u.get("duration") for u in utterances]
    exits = {
        "test_set": test_set,
        "decoding": decoding,
        "error_unit": unit.name,
        "num_utterances": len(utterances),
        "num_words": sum(one["num_words"] for one in words),
        **({} if chars is None else {"num_chars": sum(one["num_chars"] for one in chars)}),
        "duration_s": None if None in durations else sum(durations),
        "exits": [
            {
                "layer": layer,
                **_rates(words, WORD, index, with_interval=True),
                **_rates(chars, CHAR, index, with_interval=unit == CHAR),
                "params": None if params is None else int(params[index]),
                "macs_per_s": _static_rate(counts, index),
                "rtf": None if rtf is None else rtf[index],
            }
            for index, layer in enumerate(counts.exit_layers)
        ],
        "oracle": _oracle(utterances, words),
    }
    if rtf_machine is not None:
        exits["machine"] = dict(rtf_machine)
    if model is not None:
        exits["model"] = model
    if missing:
        exits["missing"] = dict(missing)
    curves = {one.label: sweeps.sweep(one, utterances) for one in available_scores.threshold_policies(utterances)}
    out_dir = Path(out_dir)
    make_folder(out_dir)
    write_whole(out_dir / "policies.json", json_bytes(curves))
    write_whole(out_dir / "exits.csv", _csv(exits["exits"], unit))
    oracle = replay.oracle_result(utterances)
    write_whole(out_dir / "exits.png", draw_exits(exits, curves, oracle_macs_per_s=oracle.macs_per_s))
    write_whole(out_dir / "exits.json", json_bytes(exits))  # last: if it exists, the other files do
    return exits


def exits_table(exits: Mapping) -> str:
    """Format ``exits.json`` as aligned plain text for a terminal.

    Arguments
    ---------
    exits : mapping
        Contents of ``exits.json``. The interval is that of the rate whose unit they name.

    Returns
    -------
    str
        One line per exit, then the oracle and the machine.

    Example
    -------
    >>> rows = [{"layer": 2, "wer": 9.5, "wer_ci95": [8.0, 11.0], "cer": 4.0, "macs_per_s": 5e8,
    ...          "rtf": None}, {"layer": 4, "wer": 6.0, "wer_ci95": [5.0, 7.25], "cer": 2.5,
    ...          "macs_per_s": 1e9, "rtf": 0.0123}]
    >>> print(exits_table({"exits": rows, "oracle": {"wer": 5.0, "mean_layer": 2.4}}))
    exit  layer  MACs %   WER % [95 %]         CER %           RTF
       0      2    50.0    9.50 [8.00, 11.00]   4.00  not measured
       1      4   100.0    6.00 [5.00, 7.25]    2.50        0.0123
    oracle: WER 5.00 % at mean layer 2.40
    """
    rows = [_header(exits), *_cells(exits)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        # Right-aligned, except the column of error rate and interval, whose rates have a fixed width.
        aligned = [
            cell.ljust(width) if column == _RATE_COLUMN else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(aligned))
    return "\n".join([*lines, *_footer(exits)])


def set_size(exits: Mapping) -> str:
    """Return the numbers of utterances and of words or characters of a test set.

    Example
    -------
    >>> set_size({"num_utterances": 2, "num_words": 7})
    '2 utterances, 7 words'
    >>> set_size({"num_utterances": 2, "num_chars": 9, "error_unit": "char"})
    '2 utterances, 9 characters'
    """
    unit = unit_of(exits)
    return f"{exits['num_utterances']} utterances, {exits[unit.length]} {unit.plural}"


def missing_line(exits: Mapping, folder: str | Path) -> str:
    """Describe the utterances that could not be evaluated in one sentence.

    Example
    -------
    >>> missing_line({"num_utterances": 9, "missing": {"a": "a.flac cannot be read"}}, "eval/test")[:75]
    '1 of 10 utterances could not be evaluated (first: a: a.flac cannot be read)'
    """
    missing = exits["missing"]
    identity, reason = next(iter(missing.items()))
    return (
        f"{len(missing)} of {exits['num_utterances'] + len(missing)} utterances could not be evaluated (first: "
        f"{identity}: {reason}): the results of the others are in {folder}; repair or remove these and run the same "
        "command again, which computes only the missing ones"
    )


def exits_markdown(exits: Mapping) -> str:
    """Format ``exits.json`` as a Markdown table for a README.

    Arguments
    ---------
    exits : mapping
        Contents of ``exits.json``.

    Returns
    -------
    str
        The table, then one paragraph with the oracle and the machine.
    """
    rows = [[cell.strip() for cell in row] for row in (_header(exits), *_cells(exits))]
    rows.insert(1, ["---:"] * len(rows[0]))
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return table + "\n\n" + "; ".join(_footer(exits)) + "\n"


_RATE_COLUMN = 3  # with its interval
_CSV_FIELDS = ("layer", "wer", "wer_low", "wer_high", "cer", "params", "macs_per_s", "rtf")
_CSV_FIELDS_OF_CHAR = ("layer", "cer", "cer_low", "cer_high", "wer", "params", "macs_per_s", "rtf")


def _rates(lines: Sequence[Mapping] | None, unit: ErrorUnit, index: int, *, with_interval: bool) -> dict:
    """Return the error rate of one exit and its interval; ``wer_ctc`` or ``cer_ctc`` if texts are from attention.

    The rate is None without lines: the texts to count characters in are missing.
    """
    if lines is None:
        return {unit.key: None}
    counts = replay.ExitCounts.of(lines)
    errors, found = counts.errors[:, index], {}
    found[unit.key] = metrics.wer(errors, counts.lengths)
    if with_interval:
        speakers = [one.get("speaker") for one in lines]
        found[f"{unit.key}_ci95"] = bootstrap_ci95(errors, counts.lengths, speakers).tolist()
    ctc = [one["exits"][index].get("ctc") for one in lines]
    if with_interval and all(one is not None and unit.errors in one for one in ctc):
        found[f"{unit.key}_ctc"] = metrics.wer([sum(one[unit.errors].values()) for one in ctc], counts.lengths)
    return found


def _oracle(utterances: Sequence[Mapping], words: Sequence[Mapping]) -> dict:
    """Return the oracle; if it counts characters, also its WER at the exits that it takes."""
    taken = replay.oracle_result(utterances).exit_indices
    counts = replay.ExitCounts.of(words)
    errors = counts.errors[np.arange(len(taken)), taken]
    return {"wer": metrics.wer(errors, counts.lengths)} | replay.oracle(utterances)


def _static_rate(counts: replay.ExitCounts, index: int) -> float | None:
    if counts.static_macs is None or counts.seconds is None:
        return None
    return float(counts.static_macs[:, index].sum() / counts.seconds)


def _units(exits: Mapping) -> tuple[ErrorUnit, ErrorUnit]:
    """Return the unit of the table, and the other one."""
    unit = unit_of(exits)
    return unit, CHAR if unit == WORD else WORD


def _header(exits: Mapping) -> list[str]:
    unit, other = _units(exits)
    ctc = [f"CTC {unit.rate} %"] if f"{unit.key}_ctc" in exits["exits"][-1] else []
    return ["exit", "layer", "MACs %", f" {unit.rate} % [95 %]", *ctc, f"{other.rate} %", "RTF"]


def _cells(exits: Mapping) -> list[list[str]]:
    full, (unit, other) = exits["exits"][-1]["macs_per_s"], _units(exits)
    return [
        [
            str(index),
            str(row["layer"]),
            f"{100 * row['macs_per_s'] / full:.1f}" if full else NOT_MEASURED,
            "{:6.2f} [{:.2f}, {:.2f}]".format(row[unit.key], *row[f"{unit.key}_ci95"]),
            *([f"{row[f'{unit.key}_ctc']:.2f}"] if f"{unit.key}_ctc" in row else []),
            NOT_MEASURED if row[other.key] is None else f"{row[other.key]:.2f}",
            NOT_MEASURED if row["rtf"] is None else f"{row['rtf']:.4f}",
        ]
        for index, row in enumerate(exits["exits"])
    ]


def _footer(exits: Mapping) -> list[str]:
    unit, oracle = unit_of(exits), exits["oracle"]
    lines = [f"oracle: {unit.rate} {oracle[unit.key]:.2f} % at mean layer {oracle['mean_layer']:.2f}"]
    if missing := exits.get("missing"):
        total = exits["num_utterances"] + len(missing)
        lines.append(f"{len(missing)} of {total} utterances are missing because they could not be evaluated")
    if exits.get("machine"):
        lines.append(_rtf_machine(exits["machine"]))
    return lines


def _rtf_machine(machine: Mapping) -> str:
    """Describe the machine of the RTF: CPU, threads and matrix rate, after the device if that is not the CPU."""
    device, threads = machine.get("device", "cpu"), machine.get("threads")
    place = machine.get("cpu", "a CPU") if device == "cpu" else f"{device}; CPU: {machine.get('cpu')}"
    place += f" with {threads} thread{'s' * (threads != 1)}" if threads else ""
    rate = machine.get("gemm_gflops")
    return f"RTF was measured on {place}" + (f" (float32 matrix products at {rate} GFLOP/s)" if rate else "")


def _csv(rows: Sequence[Mapping], unit: ErrorUnit) -> bytes:
    buffer, fields = io.StringIO(newline=""), _CSV_FIELDS if unit == WORD else _CSV_FIELDS_OF_CHAR
    writer = csv.DictWriter(buffer, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        low, high = row[f"{unit.key}_ci95"]
        writer.writerow({**row, f"{unit.key}_low": low, f"{unit.key}_high": high})
    return buffer.getvalue().encode()


def json_bytes(value: object) -> bytes:
    """Format a value as indented JSON; refuses NaN."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _check_per_exit(name: str, values: Sequence | None, exit_layers: Sequence[int]) -> None:
    if values is not None and len(values) != len(exit_layers):
        raise ValueError(
            f"{name} has {len(values)} values for exits {', '.join(map(str, exit_layers))}; give one per exit"
        )
