# SPDX-License-Identifier: Apache-2.0
"""Bundles of attackers: each is refused in one line, within a second and 1 GB, and runs none of its code.

Every case is a change of a good bundle. What it wants to run creates the file ``canary``.
"""

import io
import json
import os
import pickle
import struct
import sys
import time
import traceback
import zipfile

import pytest
import torch
from hub import files_of
from runtime.bench.tiny_export import write_export
from runtime.export.protobuf import field, model, node

from ee_runtime import EarlyExitRuntime
from ee_runtime.calibration.file import read_calibration
from speechbrain_ee.hub.contents import check_contents
from speechbrain_ee.inference.asr import EarlyExitASR

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the memory of each case is measured in a fork")

MAX_SECONDS = 1.0
MAX_MORE_KB = 2**19  # above what this process has, which is about as much after imports alone
BRACKETS = b"[" * 200_000
OBJECTS = b"[" + b"{}," * (20 * 2**20) + b"{}]"  # 60 MB, and 1.5 GB in Python
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 9)) for letter in range(ord("b"), ord("k"))
)


class Payload:
    """A pickle of it runs a command when it is loaded."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def touch(folder):
    return f"touch {folder.parent / 'canary'}"


def change_config(folder, **parts):
    config = json.loads((folder / "config.json").read_text())
    for name, values in parts.items():
        config[name] = config[name] | values if isinstance(values, dict) else values
    (folder / "config.json").write_text(json.dumps(config))


def change_calibration(folder, data):
    (folder / "calibration.json").write_bytes(data)


def only_yaml(folder, text):
    """Leave nothing but SpeechBrain's files."""
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    (folder / "hyperparams.yaml").write_bytes(text.encode() if isinstance(text, str) else text)


def only_pickle(folder):
    only_yaml(folder, "a: 1")
    (folder / "model.ckpt").write_bytes(pickle.dumps(Payload(touch(folder))))


def replace(folder, name, data):
    (folder / name).write_bytes(data)


def link(folder, name, target):
    (folder / name).unlink()
    (folder / name).symlink_to(target)


def pipe(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)


def grow(folder, name, size):
    """Make a sparse file of many bytes that takes no room on the disk."""
    with open(folder / name, "r+b") as file:
        file.truncate(size)


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def pickled_weights(folder):
    buffer = io.BytesIO()
    torch.save(Payload(touch(folder)), buffer)
    replace(folder, "model.safetensors", buffer.getvalue())


def zip_bomb(folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(50_000_000))
    replace(folder, "model.safetensors", buffer.getvalue())


def huge_tensor(folder):
    shape = [2**20, 2**20]
    replace(
        folder, "model.safetensors", safetensors({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 2**42]}})
    )


def many_tensors(folder, count):
    header = {str(number): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(count)}
    replace(folder, "model.safetensors", safetensors(header))


TORCH = {
    "yaml that runs a command": lambda f: only_yaml(f, f"a: !apply:os.system ['{touch(f)}']"),
    "yaml that starts a process": lambda f: only_yaml(f, f"a: !new:subprocess.Popen [[{', '.join(touch(f).split())}]]"),
    "yaml with a python tag": lambda f: only_yaml(f, f"a: !!python/object/apply:os.system ['{touch(f)}']"),
    "yaml that includes a file": lambda f: only_yaml(f, "a: !include:/etc/passwd"),
    "yaml with an alias bomb": lambda f: only_yaml(f, BOMB),
    "yaml with 200,000 brackets": lambda f: only_yaml(f, b"a: " + BRACKETS),
    "pickle as a checkpoint": only_pickle,
    "config that is yaml": lambda f: replace(f, "config.json", f"!apply:os.system ['{touch(f)}']".encode()),
    "config with 200,000 brackets": lambda f: replace(f, "config.json", BRACKETS),
    "config with a long integer": lambda f: replace(f, "config.json", b'{"format": ' + b"9" * 500_000 + b"}"),
    "config of 4 GB": lambda f: grow(f, "config.json", 2**32),
    "config that is a device": lambda f: link(f, "config.json", "/dev/zero"),
    "config that is a pipe": lambda f: pipe(f, "config.json"),
    "config that names a function": lambda f: change_config(f, encoder={"class": "os.system"}),
    "config that names a class of torch": lambda f: change_config(f, heads={"class": "torch.nn.Linear"}),
    "config that names a source": lambda f: change_config(f, encoder={"source": "user/other"}),
    "config with an unknown argument": lambda f: change_config(f, features={"__class__": "os.system"}),
    "config with a huge width": lambda f: change_config(f, encoder={"d_model": 2**29, "d_ffn": 2**29}),
    "config with a billion layers": lambda f: change_config(f, encoder={"num_layers": 10**9, "exit_layers": [10**9]}),
    "config with a huge Fourier transform": lambda f: change_config(f, features={"n_fft": 10**9}),
    "config with a list as a class": lambda f: change_config(f, encoder={"class": ["os.system"]}),
    "weights that are a pickle": pickled_weights,
    "weights that are a zip bomb": zip_bomb,
    "weights with a huge tensor": huge_tensor,
    "weights with a header of 2^60 bytes": lambda f: replace(f, "model.safetensors", safetensors(b"{}", length=2**60)),
    "weights with 200,000 brackets": lambda f: replace(f, "model.safetensors", safetensors(BRACKETS)),
    "weights of 100 TB": lambda f: grow(f, "model.safetensors", 10**13),
    "weights with many names": lambda f: many_tensors(f, 2**17),
    "weights with fewer names": lambda f: many_tensors(f, 2**14),
    "weights that are a device": lambda f: link(f, "model.safetensors", "/dev/zero"),
    "weights that are a password file": lambda f: link(f, "model.safetensors", "/etc/passwd"),
    "tokenizer that is a pickle": lambda f: replace(f, "tokenizer.model", pickle.dumps(Payload(touch(f)))),
    "tokenizer of 100 GB": lambda f: grow(f, "tokenizer.model", 10**11),
    "tokenizer that is a device": lambda f: link(f, "tokenizer.model", "/dev/zero"),
    "calibration that names a function": lambda f: change_calibration(f, b'{"policy": {"policy": "os.system"}}'),
    "calibration with 200,000 brackets": lambda f: change_calibration(f, BRACKETS),
    "calibration of 100 GB": lambda f: grow(f, "calibration.json", 10**11),
    "calibration of many small objects": lambda f: change_calibration(f, OBJECTS),
}


def change_export(folder, path, value):
    values = json.loads((folder / "export.json").read_text())
    *places, last = path
    place = values
    for name in places:
        place = place[name]
    place[last] = value
    (folder / "export.json").write_text(json.dumps(values))


def change_graph(folder, data):
    """Replace a graph, with the right hash in export.json."""
    import hashlib

    entry = json.loads((folder / "export.json").read_text())["graphs"]["segments"][0]
    (folder / entry["file"]).write_bytes(data)
    facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change_export(folder, ["graphs", "segments", 0], entry | facts)


EXTERNAL = field(13, field(1, "location") + field(2, "/etc/passwd")) + field(14, 1)  # of a tensor
ONNX = {
    "graph with weights in another file": lambda f: change_graph(
        f, model(node("Add"), field(5, field(1, 4) + field(2, 1) + field(8, "w") + EXTERNAL))
    ),
    "graph with a loop": lambda f: change_graph(f, model(node("Loop"))),
    "graph with an operator of a library": lambda f: change_graph(f, model(node("Run", domain="attacker"))),
    "graph that is a pickle": lambda f: change_graph(f, pickle.dumps(Payload(touch(f)))),
    "graph that is another file": lambda f: change_export(f, ["graphs", "segments", 0, "file"], "../../../etc/passwd"),
    "graph with an absolute name": lambda f: change_export(f, ["graphs", "segments", 0, "file"], "/etc/passwd"),
    "graph that is a device": lambda f: link(f, "segment0.onnx", "/dev/zero"),
    "graph of 100 GB": lambda f: grow(f, "segment0.onnx", 10**11),
    "export with 200,000 brackets": lambda f: replace(f, "export.json", BRACKETS),
    "export of 100 GB": lambda f: grow(f, "export.json", 10**11),
    "export of many small objects": lambda f: replace(f, "export.json", OBJECTS),
    "export of smaller objects": lambda f: replace(f, "export.json", b"[" + b"{}," * (5 * 2**20) + b"{}]"),
    "export with control characters": lambda f: change_export(f, ["vocab", 3], "\x1b]0;owned\x07"),
    "export with a million exits": lambda f: change_export(f, ["exit_layers"], list(range(1, 10**6))),
}


def list_outside(folder):
    contents = json.loads((folder / "bundle.json").read_text())
    contents["files"]["../../canary"] = {"bytes": 1, "sha256": "0" * 64}
    (folder / "bundle.json").write_text(json.dumps(contents))


PUBLISHED = {
    "a listed file outside": list_outside,
    "a link to a password file": lambda f: link(f, "LICENSE", "/etc/passwd"),
    "a link to a folder": lambda f: (f / "more").symlink_to("/etc"),
    "a list with 200,000 brackets": lambda f: replace(f, "bundle.json", BRACKETS),
    "a list of 100 GB": lambda f: grow(f, "bundle.json", 10**11),
}


def attempt(use, folder):
    """Run ``use(folder)`` in a fork: what it said, its seconds of CPU time, and its peak memory in kB."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        torch.set_num_threads(1)  # a fork has no other threads, for which it would wait
        start = time.process_time()  # other processes do not count
        try:
            use(folder)
            told = "loaded"
        except ValueError as error:
            told = f"refused: {error}"
        except BaseException:
            told = "bug: " + traceback.format_exc()
        os.write(writer, f"{time.process_time() - start} {told}".encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe_end:
        seconds, _, told = pipe_end.read().decode().partition(" ")
    _, status, usage = os.wait4(child, 0)
    assert status == 0, f"the process died with status {status}"
    return told, float(seconds), usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)


def check(use, folder):
    told, seconds, memory_kb = attempt(use, folder)
    assert told.startswith("refused: "), told
    assert "\n" not in told and "root:" not in told and len(told) < 1500, told
    before_kb = attempt(lambda _: None, folder)[2]
    assert seconds < MAX_SECONDS and memory_kb - before_kb < MAX_MORE_KB, (seconds, memory_kb, before_kb)
    assert not (folder.parent / "canary").exists()


@pytest.mark.parametrize("case", TORCH)
def test_a_hostile_model_is_refused(bundle, case):
    TORCH[case](bundle)
    check(EarlyExitASR.from_hparams, bundle)


@pytest.mark.parametrize("case", [case for case in TORCH if case.startswith("calibration")])
def test_a_hostile_calibration_is_refused_alone(bundle, case):
    TORCH[case](bundle)
    check(lambda folder: read_calibration(folder / "calibration.json"), bundle)


@pytest.mark.parametrize("case", ONNX)
def test_a_hostile_export_is_refused(tmp_path, case):
    write_export(tmp_path / "export")
    ONNX[case](tmp_path / "export")
    check(load_and_run, tmp_path / "export")


def load_and_run(folder):
    """Graphs that no policy needs are checked when they are first run."""
    import numpy as np

    EarlyExitRuntime(folder, threads=1).transcribe_waveforms([np.zeros(8000, np.float32)])


@pytest.mark.parametrize("case", PUBLISHED)
def test_a_changed_bundle_is_not_published(bundle, case):
    PUBLISHED[case](bundle)
    check(check_contents, bundle)


def test_the_good_ones_load(bundle, tmp_path):
    write_export(tmp_path / "export")
    for use, folder in ((EarlyExitASR.from_hparams, bundle), (load_and_run, tmp_path / "export")):
        assert attempt(use, folder)[0] == "loaded"


def test_what_is_never_read_changes_nothing(bundle):
    """The files of SpeechBrain in a bundle with a good model: our loader ignores them."""
    (bundle / "hyperparams.yaml").write_text(f"a: !apply:os.system ['{touch(bundle)}']")
    for name in ("model.ckpt", "normalizer.ckpt", "tokenizer.ckpt", "custom.py"):
        (bundle / name).write_bytes(pickle.dumps(Payload(touch(bundle))))
    before = files_of(bundle)
    assert attempt(EarlyExitASR.from_hparams, bundle)[0] == "loaded"
    assert files_of(bundle) == before and not (bundle.parent / "canary").exists()
    assert pickle.loads(before["model.ckpt"]) == 0 and (bundle.parent / "canary").exists()  # the payload works
