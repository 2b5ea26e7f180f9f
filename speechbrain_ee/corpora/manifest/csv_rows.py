# SPDX-License-Identifier: Apache-2.0
"""Rows of a CSV manifest, as SpeechBrain's recipes write them."""

import csv
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from speechbrain_ee.corpora.manifest.text import AMBIGUOUS, EXCERPT, NAMES, ManifestError

DELIMITERS = (",", ";", "\t")
CSV_COLUMNS = {"id": "ID", "duration": "duration", "audio_filepath": "wav", "text": "wrd"}


def csv_rows(path: Path, text: str, required: Collection[str] = tuple(CSV_COLUMNS)) -> Iterator[tuple[str, dict]]:
    r"""Yield the position of each utterance and its values by column; ``required`` must have columns.

    Raises
    ------
    ManifestError
        If a column is missing or repeated, a row has another number of fields than the first line, or a quoted field
        spans several lines.

    Example
    -------
    >>> next(csv_rows(Path("a.csv"), "ID;duration;wav;wrd\nu1;1.5;a.wav;the cat\n"))[1]["wrd"]
    'the cat'
    """
    lines = text.split("\n")
    header = next((number for number, line in enumerate(lines) if line.strip()), None)
    if header is None:
        return
    delimiter, columns = _header(path, lines[header], required)
    # Line ends are kept to detect a field that spans lines; strict: text after a closing quotation mark is an error.
    reader = csv.reader(
        (f"{line}\n" for line in lines[header + 1 :]), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    begin = header + 2
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ManifestError(
                f"{path}, line {begin} is not CSV ({_csv_reason(error)}): put a text with a quotation mark or a "
                "delimiter between quotation marks, and write each mark inside it twice"
            ) from None
        end = header + 1 + reader.line_num
        if end > begin:
            raise ManifestError(
                f"{path}, line {begin} has a quotation mark that is not closed on its line (but on line {end}): close "
                "it, or put the text between quotation marks and write each mark inside it twice"
            )
        if any(field.strip() for field in row):
            yield f"line {begin}", _csv_row(path, row, columns, begin)
        begin = end + 1


def _csv_reason(error: csv.Error) -> str:
    reason = str(error)
    if "unexpected end" in reason:
        return "a quotation mark is never closed"
    return "text after a closing quotation mark" if "expected after" in reason else reason


def _header(path: Path, line: str, required: Collection[str]) -> tuple[str, list[str]]:
    """Return the delimiter that gives the most required columns, and the columns."""
    tried = {}
    for delimiter in DELIMITERS:
        columns = [name.strip() for name in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
        lacking = [column for key, column in CSV_COLUMNS.items() if not set(NAMES[key]) & set(columns)]
        if {"offset", "start"} & set(columns) and "duration" in lacking:
            lacking.remove("duration")  # of a part of a file: to the end
        tried[delimiter] = columns, lacking
    delimiter = min(tried, key=lambda one: len(tried[one][1]))
    columns, lacking = tried[delimiter]
    if lacking := [column for key, column in CSV_COLUMNS.items() if column in lacking and key in required]:
        needed = ",".join(column for key, column in CSV_COLUMNS.items() if key in required)
        raise ManifestError(
            f"{path} has no column {', '.join(lacking)}: its first line must name {needed}, and may name ID and spk_id"
        )
    if repeated := [name for name, count in Counter(columns).items() if name and count > 1]:
        raise ManifestError(f"{path} has the column {repeated[0]} {columns.count(repeated[0])} times: keep one of them")
    return delimiter, columns


def _csv_row(path: Path, row: list[str], columns: list[str], line: int) -> dict:
    if len(row) != len(columns):
        raise ManifestError(
            f"{path}, line {line} has {len(row)} fields, but the first line has {len(columns)} columns: "
            "put a text with a delimiter between quotation marks"
        )
    named = dict(zip(columns, row, strict=True))
    for key in ("duration", "speaker", "id"):
        for name in NAMES[key]:
            if name in named:
                named[name] = named[name].strip() or None
    for name in (*NAMES["duration"], *EXCERPT, *AMBIGUOUS):
        if name in named:
            named[name] = _number((named[name] or "").strip() or None)
    return named


def _number(text: str | None) -> float | str | None:
    try:
        return float(text) if text and "_" not in text else text
    except ValueError:
        return text  # utterance_from_row refuses it
