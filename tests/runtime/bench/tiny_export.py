# SPDX-License-Identifier: Apache-2.0
"""An export with real graphs of a few multiplications, which is written in milliseconds and needs no torch."""

import hashlib
import json

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
helper = onnx.helper

STEP, WIDTH, VOCAB = 160, 8, 6  # samples per frame, size of a frame, tokens
FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def write_export(folder, exit_layers=(1, 2), *, sample_rate=16000, max_part_s=30.0):
    """Write an export: features are a strided convolution, a layer is a product and tanh, a head a product."""
    folder.mkdir()
    random = np.random.default_rng(0)
    sizes = np.diff([0, *exit_layers]).tolist()
    files = {
        "features": save(folder, "features", features(random)),
        "segments": [
            save(folder, f"segment{index}", segment(random, size, is_first=index == 0))
            for index, size in enumerate(sizes)
        ],
        "exits": [save(folder, f"exit{index}", head(random)) for index in range(len(sizes))],
        "change": save(folder, "change", b"no policy of these tests reads it"),
    }
    contents = {
        "format": 1,
        "model": "0" * 16,
        "precision": "fp32",
        "sample_rate": sample_rate,
        "min_seconds": 0.0,
        "max_part_s": max_part_s,
        "max_output_frames": None,
        "exit_layers": list(exit_layers),
        "params": [1000 * layer for layer in exit_layers],
        "score_names": ["entropy"],
        "cost": {
            "min_frames": 1,
            "stages": [],
            "front": [0, 0],
            "layer": [0, WIDTH * WIDTH, 0],
            "head": WIDTH * VOCAB,
            "segments": sizes,
        },
        "vocab": ["<unk>", "<s>", "</s>", "▁a", "b", "c"],
        "graphs": files,
    }
    (folder / "export.json").write_text(json.dumps(contents), "utf-8")
    return folder


def save(folder, name, data):
    (folder / f"{name}.onnx").write_bytes(data)
    return {"file": f"{name}.onnx", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def features(random):
    nodes = [
        helper.make_node("Unsqueeze", ["wavs", "one"], ["channel"]),
        helper.make_node("Conv", ["channel", "kernel"], ["frames_last"], strides=[STEP]),
        helper.make_node("Transpose", ["frames_last"], ["feats"], perm=[0, 2, 1]),
        helper.make_node("Div", ["num_samples", "step"], ["num_frames"]),
    ]
    constants = {"one": np.array([1]), "step": np.array(STEP), "kernel": normal(random, WIDTH, 1, STEP)}
    inputs = {"wavs": (FLOAT, ["b", "s"]), "num_samples": (INT, ["b"])}
    return graph(nodes, constants, inputs, {"feats": (FLOAT, ["b", "f", WIDTH]), "num_frames": (INT, ["b"])})


def segment(random, num_layers, *, is_first):
    nodes, constants, x = [], {}, "x"
    for layer in range(num_layers):
        constants[f"weight{layer}"] = normal(random, WIDTH, WIDTH)
        nodes.append(helper.make_node("MatMul", [x, f"weight{layer}"], [f"product{layer}"]))
        x = "y" if layer == num_layers - 1 else f"state{layer}"
        nodes.append(helper.make_node("Tanh", [f"product{layer}"], [x]))
    outputs = {"y": (FLOAT, ["b", "f", WIDTH])}
    if is_first:  # its front-end could change the lengths
        nodes.append(helper.make_node("Identity", ["lengths"], ["out_lengths"]))
        outputs["out_lengths"] = (INT, ["b"])
    return graph(nodes, constants, state(), outputs)


def head(random):
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
        helper.make_node("ReduceMax", ["log_probs"], ["best_log_probs"], axes=[-1], keepdims=0),
        helper.make_node("ArgMax", ["log_probs"], ["best_tokens"], axis=-1, keepdims=0),
        helper.make_node("ReduceMean", ["best_log_probs"], ["mean"], axes=[-1], keepdims=1),
        helper.make_node("Neg", ["mean"], ["scores"]),
    ]
    outputs = {
        "log_probs": (FLOAT, ["b", "f", VOCAB]),
        "best_log_probs": (FLOAT, ["b", "f"]),
        "best_tokens": (INT, ["b", "f"]),
        "scores": (FLOAT, ["b", 1]),
    }
    return graph(nodes, {"weight": normal(random, WIDTH, VOCAB)}, state(), outputs)


def state():
    return {"x": (FLOAT, ["b", "f", WIDTH]), "lengths": (INT, ["b"])}


def normal(random, *shape):
    return random.standard_normal(shape, dtype=np.float32)


def graph(nodes, constants, inputs, outputs):
    ends = [[helper.make_tensor_value_info(name, *kind) for name, kind in ends.items()] for ends in (inputs, outputs)]
    initial = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", *ends, initial), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    return model.SerializeToString()
