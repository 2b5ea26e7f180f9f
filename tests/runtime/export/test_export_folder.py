# SPDX-License-Identifier: Apache-2.0
"""Damaged, swapped and hostile exports are refused in one line, before onnxruntime sees them."""

import hashlib
import json
import os

import pytest
from runtime.export.protobuf import field, model, node

from ee_runtime.export_folder import ExportError, read_export, read_graph

GRAPH = model(node("Identity"))


def entry(name, data=GRAPH):
    return {"file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def values():
    return {
        "format": 1,
        "model": "0" * 16,
        "precision": "fp32",
        "sample_rate": 16000,
        "min_seconds": 0.0,
        "max_part_s": 30.0,
        "max_output_frames": None,
        "exit_layers": [2, 4],
        "params": [1000, 2000],
        "score_names": ["entropy"],
        "cost": {
            "min_frames": 1,
            "stages": [[3, 2, 1, 10]],
            "front": [0, 5],
            "layer": [0, 100, 1],
            "head": 7,
            "segments": [2, 2],
        },
        "vocab": ["<unk>", "<s>", "</s>", "▁a"],
        "graphs": {
            "features": entry("features.onnx"),
            "segments": [entry("segment0.onnx"), entry("segment1.onnx")],
            "exits": [entry("exit0.onnx"), entry("exit1.onnx")],
            "change": entry("change.onnx"),
        },
    }


def with_attention():
    contents = values()
    contents["format"] = 2
    contents["attention"] = {
        "decoder_of_exit": [None, 0],
        "nhead": 2,
        "max_length": 100,
        "cost": {"num_layers": 1, "d_model": 8, "d_ffn": 16, "vocab_size": 4},
    }
    contents["graphs"] |= {"memories": [entry("memory0.onnx")], "steps": [entry("step0.onnx")]}
    return contents


def changed(contents, path, value):
    place = contents
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return contents


def write(folder, contents):
    folder.mkdir(exist_ok=True)
    (folder / "export.json").write_text(json.dumps(contents), "utf-8")
    for name in ("features", "segment0", "segment1", "exit0", "exit1", "change"):
        (folder / f"{name}.onnx").write_bytes(GRAPH)
    return folder


def test_a_whole_export_is_read(tmp_path):
    export = read_export(write(tmp_path / "export", values()))
    assert export.exit_layers == (2, 4)
    assert export.cost.exit_macs(7) == [20 * 2 + 20 + 2 * 416 + 28, 20 * 2 + 20 + 4 * 416 + 56]
    assert read_graph(export.folder, export.segments[1]) == GRAPH


def test_attention_decoders_are_read_and_a_folder_without_them_has_none(tmp_path):
    assert read_export(write(tmp_path / "plain", values())).attention is None
    attention = read_export(write(tmp_path / "export", with_attention())).attention
    assert attention.decoder_of_exit == (None, 0) and attention.max_length == 100
    assert attention.cost.start_macs(10) == 2 * 10 * 8**2
    assert [attention.num_bytes(index) for index in range(2)] == [0, 2 * len(GRAPH)]
    assert [one.name for one in attention.memories + attention.steps] == ["memory0.onnx", "step0.onnx"]


HUGE = 10**30


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], 3, "format 3 is not 1 or 2"),
        (["format"], HUGE, "is not 1"),
        (["model"], 5, "model is not text"),
        (["sample_rate"], "16000", "sample_rate 16000 is not a number"),
        (["sample_rate"], 0, "sample_rate 0 is not a number"),
        (["sample_rate"], 10**400, "has a number of 401 digits"),
        (["sample_rate"], True, "sample_rate True is not a number"),
        (["max_part_s"], float("nan"), "max_part_s nan is not a number"),
        (["max_part_s"], float("inf"), "max_part_s inf is not a number"),
        (["max_part_s"], HUGE, "is not a number"),
        (["max_output_frames"], 0, "max_output_frames 0 is not a number"),
        (["exit_layers"], [], "are not increasing"),
        (["exit_layers"], 4, "is not a list"),
        (["params"], [1000, -1], "params -1 is not a number"),
        (["params"], [1000], "there are 1 params for 2 exit layers"),
        (["exit_layers"], [4, 2], "are not increasing"),
        (["exit_layers"], [2, "4"], "exit_layers 4 is not a number"),
        (["exit_layers"], list(range(1, 1000)), "exit_layers 201 is not a number"),
        (["exit_layers"], [2, 4, 6], "there are 2 segments for 3 exit layers"),
        (["vocab"], "abc", "vocab is not a list"),
        (["vocab"], [1, 2, 3, 4], "vocab has entries that are not text"),
        (["vocab"], ["a"] * 100_001, "vocab is not a list"),
        (["vocab"], ["<unk>", "<s>", "</s>", "a\x1b[2J"], "vocab has control characters"),
        (["score_names"], [["entropy"]], "score_names is not a list"),
        (["sample_rate"], [16000], "is not a number"),
        (["graphs"], [], "graphs is not an object"),
        (["graphs", "features"], [], "an entry that is not an object"),
        (["graphs", "features"], "features.onnx", "an entry that is not an object"),
        (["graphs", "features", "file"], "../features.onnx", "is not the name of a file"),
        (["graphs", "features", "file"], "/etc/passwd", "is not the name of a file"),
        (["graphs", "features", "file"], "..", "is not the name of a file"),
        (["graphs", "features", "file"], "", "is not the name of a file"),
        (["graphs", "features", "file"], None, "is not the name of a file"),
        (["graphs", "features", "bytes"], -1, "has no size or hash"),
        (["graphs", "features", "bytes"], HUGE, "has no size or hash"),
        (["graphs", "features", "sha256"], 7, "has no size or hash"),
        (["cost"], 7, "cost is not an object"),
        (["cost", "stages"], [[3, 0, 1, 1]], "wrong shapes"),
        (["cost", "stages"], [3], "cost has missing or unknown entries"),
        (["cost", "head"], 1.5, "not integers"),
        (["cost", "head"], HUGE, "not integers"),
        (["cost", "segments"], [1], "wrong shapes"),
        (["cost", "unknown"], 1, "missing or unknown"),
    ],
)
def test_wrong_contents_are_one_line(tmp_path, path, value, message):
    with pytest.raises(ExportError, match=message) as caught:
        read_export(write(tmp_path / "export", changed(values(), path, value)))
    assert "export.json" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["attention"], None, "attention is not an object"),
        (["attention"], [], "attention is not an object"),
        (["attention", "decoder_of_exit"], [0], "is not a list of 2 decoders"),
        (["attention", "decoder_of_exit"], {"0": 0, "1": 0}, "is not a list of 2 decoders"),
        (["attention", "decoder_of_exit"], [None, None], "does not name each of the 1 attention decoders"),
        (["attention", "decoder_of_exit"], [0, 1], "does not name each of the 1 attention decoders"),
        (["attention", "decoder_of_exit"], [-1, 0], "does not name each of the 1 attention decoders"),
        (["attention", "decoder_of_exit"], [True, 0], "not integers or null"),
        (["attention", "decoder_of_exit"], ["0", 0], "not integers or null"),
        (["attention", "decoder_of_exit"], [[0], 0], "not integers or null"),
        (["attention", "nhead"], 0, "nhead 0 is not a number from 1 to 8"),
        (["attention", "nhead"], 3, "d_model 8 of the attention decoders is not a multiple of nhead 3"),
        (["attention", "nhead"], [2], "is not a number"),
        (["attention", "max_length"], 0, "max_length 0 is not a number"),
        (["attention", "max_length"], HUGE, "is not a number"),
        (["attention", "max_length"], 2.5, "max_length 2.5 is not a number"),
        (["attention", "cost"], None, "has others than num_layers, d_model, d_ffn, vocab_size"),
        (["attention", "cost"], {"num_layers": 1}, "lacks entries"),
        (["attention", "cost", "num_layers"], 10**6, "num_layers 1000000 is not a number from 1 to 200"),
        (["attention", "cost", "d_model"], -8, "d_model -8 is not a number"),
        (["attention", "cost", "d_ffn"], "16", "d_ffn 16 is not a number"),
        (["attention", "cost", "vocab_size"], 3, "attention decoders have 3 tokens, vocab has 4"),
        (["graphs", "memories"], [], "there are 0 memories for 1 steps"),
        (["graphs", "steps"], entry("step0.onnx"), "its steps are not a list"),
        (["graphs", "steps", 0, "file"], "../step0.onnx", "is not the name of a file"),
        (["graphs", "steps", 0, "bytes"], 2**31, "has no size or hash"),
    ],
)
def test_wrong_attention_decoders_are_one_line(tmp_path, path, value, message):
    with pytest.raises(ExportError, match=message) as caught:
        read_export(write(tmp_path / "export", changed(with_attention(), path, value)))
    assert "export.json" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("path", [["attention"], ["graphs", "memories"], ["attention", "nhead"], ["attention", "cost"]])
def test_a_missing_entry_of_attention_is_named(tmp_path, path):
    contents = with_attention()
    place = contents if len(path) == 1 else contents[path[0]]
    del place[path[-1]]
    with pytest.raises(ExportError, match=f"'{path[-1]}' is missing"):
        read_export(write(tmp_path / "export", contents))


@pytest.mark.parametrize("key", list(values()))
def test_a_missing_entry_is_named(tmp_path, key):
    contents = values()
    del contents[key]
    with pytest.raises(ExportError, match="None is not 1 or 2" if key == "format" else f"'{key}' is missing"):
        read_export(write(tmp_path / "export", contents))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"[]", "is not a JSON object"),
        (b"{", "export the model again"),
        (b"\xff\xfe", "export the model again"),
        (b"[" * 200_000, "has too many brackets within brackets"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "pointer of Git LFS"),
        (b" " * (16 * 2**20 + 1), "is larger than"),
    ],
)
def test_other_bytes_are_one_line(tmp_path, data, message):
    (tmp_path / "export.json").write_bytes(data)
    with pytest.raises(ExportError, match=message) as caught:
        read_export(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_an_export_is_named(tmp_path):
    with pytest.raises(ExportError, match="give a folder that speechbrain-ee export wrote"):
        read_export(tmp_path / "missing")


def test_changed_swapped_missing_and_truncated_graphs_are_refused(tmp_path):
    export = read_export(write(tmp_path / "export", values()))
    path = export.folder / "segment0.onnx"
    path.write_bytes(GRAPH[::-1])
    with pytest.raises(ExportError, match="its SHA-256 differs"):
        read_graph(export.folder, export.segments[0])
    path.write_bytes(GRAPH[:-1])
    with pytest.raises(ExportError, match=f"has {len(GRAPH) - 1} bytes instead of {len(GRAPH)}"):
        read_graph(export.folder, export.segments[0])
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid")
    with pytest.raises(ExportError, match="pointer of Git LFS"):
        read_graph(export.folder, export.segments[0])
    path.unlink()
    with pytest.raises(ExportError, match="file not found: copy the export again"):
        read_graph(export.folder, export.segments[0])
    path.mkdir()
    with pytest.raises(ExportError, match="segment0.onnx"):
        read_graph(export.folder, export.segments[0])


@pytest.mark.skipif(os.name == "nt", reason="named pipes")
def test_a_pipe_in_place_of_a_graph_does_not_hang(tmp_path):
    export = read_export(write(tmp_path / "export", values()))
    (export.folder / "segment0.onnx").unlink()
    os.mkfifo(export.folder / "segment0.onnx")
    with pytest.raises(ExportError, match="segment0.onnx"):
        read_graph(export.folder, export.segments[0])


@pytest.mark.parametrize("operator", ["Loop", "Identity"])
def test_a_graph_with_the_right_hash_is_checked(tmp_path, operator):
    outside = field(5, field(13, field(2, "/etc/passwd") + field(1, "location"))) if operator == "Identity" else b""
    contents, data = values(), model(node(operator), outside)
    contents["graphs"]["features"] = entry("features.onnx", data)
    export = read_export(write(tmp_path / "export", contents))
    (export.folder / "features.onnx").write_bytes(data)
    with pytest.raises(ExportError, match=r"features.onnx (reads weights|has the operator).*: do not use it"):
        read_graph(export.folder, export.features)
