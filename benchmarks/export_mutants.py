# SPDX-License-Identifier: Apache-2.0
"""Damage exports for ``fuzz_export.py``: files, values in JSON files, and graphs (``graph_mutants.py``).

A mutant is a function of a random generator and a folder, which it changes. It returns True if the runtime must refuse
the folder, and False if a text is right, too.
"""

import json
import os
from pathlib import Path

from graph_mutants import (
    EDITS,
    LAZY,
    RNG,
    edit,
    of_another_export,
    other_format,
    pick,
    random_bytes,
    swap_entries,
)

VALUES = [
    *(None, True, False, 0, 1, -1, 2**31, 2**53, 2**63, -(2**63), 10**30, 10**400, 1e308, -0.0, 1e-320, 0.5),
    *(float("nan"), float("inf"), float("-inf"), "", "a", "\x00", "\n", "\x1b[2J", "\ud800", "a" * 100_000),
    *("../export.json", "/dev/zero", "/etc/passwd", ".", "..", "~", "%s%n", [], {}, [[]], [None], {"": 0}),
    *([0] * 1000, [1, "a"], list(range(100_000)), {"a": {"b": {}}}, [{}], [-1, -2], ["features.onnx"]),
]
TEXTS = [
    *("", " ", "null", "0", "[]", "{", "}", "[" * 200_000, '{"a":' * 200_000, "\ufeff{}", "NaN", '"' + "a" * 10**6),
    *(
        "[" + "1," * 10**6 + "1]",
        "9" * 5000,
        '{"format": 1}',
        " " * (2**24 + 1),
        "version https://git-lfs",
        "\x00" * 99,
    ),
]


# ---- files


def flip_bits(rng: RNG, folder: Path) -> bool:
    """Flip one to twenty bits of a file."""
    path = pick(rng, folder, "")
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 3, 20])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    is_same = bytes(data) == path.read_bytes()
    path.write_bytes(data)
    return path.suffix == ".onnx" and path.name != LAZY and not is_same


def cut(rng: RNG, folder: Path) -> bool:
    """Truncate a file, or append to it."""
    path = pick(rng, folder, "")
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.7 else data + rng.randbytes(9))
    return path.suffix == ".onnx" and path.name != LAZY


def swap_files(rng: RNG, folder: Path) -> bool:
    """Swap two graphs."""
    a, b = pick(rng, folder), pick(rng, folder)
    data, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other)
    b.write_bytes(data)
    return data != other


def odd_file(rng: RNG, folder: Path) -> bool:
    """Replace a file by what is no regular file, or by nothing."""
    path = pick(rng, folder, "")
    path.unlink()
    kind = rng.choice(["missing", "folder", "fifo", "zero", "null", "tty", "loop", "dangling", "empty", "fd", "mem"])
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "empty":
        path.touch()
    elif kind != "missing":
        targets = {"zero": "/dev/zero", "null": "/dev/null", "tty": "/dev/tty", "loop": path, "dangling": "nowhere"}
        path.symlink_to((targets | {"fd": "/proc/self/fd", "mem": "/proc/self/mem"})[kind])
    return path.name.endswith((".onnx", "export.json")) and path.name != LAZY


# ---- values in JSON files


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Return the paths of all values within plain values."""
    found = [path] if path else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in pairs:
        if not isinstance(key, int) or key < 3:
            found += places(one, (*path, key))
    return found


def change_value(rng: RNG, folder: Path) -> bool:
    """Replace, remove, repeat or rename one to three values of export.json or calibration.json."""
    path = pick(rng, folder, ".json")
    values = json.loads(path.read_text("utf-8"))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if not places(values):
            break
        *above, key = rng.choice(places(values))
        place = values
        for one in above:
            place = place[one]
        how = rng.choice(["replace"] * 6 + ["remove", "rename", "number"])
        if how == "remove" and isinstance(place, dict):
            del place[key]
        elif how == "rename" and isinstance(place, dict):
            place[f"{key}s"] = place.pop(key)
        elif how == "number" and isinstance(place[key], int | float):
            place[key] = rng.choice([place[key] + 1, -place[key], place[key] * 1000, str(place[key])])
        else:
            place[key] = rng.choice(VALUES)
    path.write_text(json.dumps(values), "utf-8")
    return False


def change_text(rng: RNG, folder: Path) -> bool:
    """Replace the text of a JSON file, or a part of it."""
    path = pick(rng, folder, ".json")
    text = path.read_text("utf-8")
    at = rng.randrange(len(text))
    cuts = [text[:at], text[at:], text[:at] + rng.choice(TEXTS) + text[at:], rng.choice(TEXTS), text + text]
    cuts += ['{"format": 2, "vocab": [], ' + text[1:], text.rstrip()[:-1] + ', "exit_layers": []}']  # names twice
    how = rng.randrange(len(cuts) + 2)
    if how < len(cuts):
        path.write_text(cuts[how], "utf-8")
    else:
        path.write_bytes(text.encode("utf-16") if how == len(cuts) else b"\xff\xfe" + text.encode())
    return False


def another_policy(rng: RNG, folder: Path) -> bool:
    """Write a policy with strange values into calibration.json."""
    names = ["fixed_exit", "score_threshold", "patience", "learned", "capped", "running_budget", "token_bucket", "x"]
    policy = {"policy": rng.choice(names)}
    keys = ["layer", "score", "threshold", "level", "learned", "of", "max_layer", "macs_per_s", "deadline_ms"]
    keys += ["guarded", "capacity", "thresholds", "step", "seconds_to_exit", "seconds_to_text"]
    for key in rng.sample(keys, rng.randrange(4)):
        good = {"score": "entropy", "threshold": 0.3, "of": {"policy": "fixed_exit"}, "layer": 1, "level": 1.0}
        policy[key] = good[key] if key in good and rng.random() < 0.6 else rng.choice(VALUES)
    for _ in range(rng.choice([0, 0, 1, 2, 900, 20_000])):
        policy = {"policy": "capped", "max_layer": 1, "of": policy}
    text = '{"policy": ' if rng.random() < 0.9 else '{"policy": {}, "policy": '
    inner, depth = policy, 0
    while isinstance(inner, dict) and "of" in inner and inner["policy"] == "capped" and depth < 30_000:
        text, inner, depth = text + '{"policy": "capped", "max_layer": 1, "of": ', inner["of"], depth + 1
    text += json.dumps(inner) + "}" * depth + "}"
    (folder / "calibration.json").write_text(text, "utf-8")
    return False


FILES = [flip_bits, cut, swap_files, odd_file]
JSON = [change_value, change_value, change_text, another_policy]


def mutate(rng: RNG, folder: Path, others: list[Path]) -> tuple[str, bool]:
    """Apply a random mutant; return its name and whether the folder must be refused."""
    group = rng.choice(["files", "json", "bytes", "edits", "edits", "edits"])
    if group == "files":
        one = rng.choice(FILES)
        return one.__name__, one(rng, folder)
    if group == "json":
        one = rng.choice(JSON)
        return one.__name__, one(rng, folder)
    if group == "bytes":
        one = rng.choice([swap_entries, of_another_export, random_bytes, random_bytes, other_format])
        return one.__name__, one(rng, folder, others) if one is of_another_export else one(rng, folder)
    one = rng.choice(EDITS)
    return one.__name__, edit(rng, folder, one)
