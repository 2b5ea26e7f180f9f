# SPDX-License-Identifier: Apache-2.0
"""Export a trained model as ONNX graphs that :class:`ee_runtime.EarlyExitRuntime` runs without torch."""

import hashlib
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from ee_runtime.calibration.file import CALIBRATION_FILE
from ee_runtime.export_folder import EXPORT_FILE, FORMAT
from ee_runtime.files import write_whole
from ee_runtime.policies import policy_from_dict
from speechbrain_ee.export.features import features_form
from speechbrain_ee.export.forms import export_form
from speechbrain_ee.export.graphs import GRAPH_SCORES, ChangeForm, ExitForm, SegmentForm
from speechbrain_ee.export.pretrained_forms import scale_rows
from speechbrain_ee.export.quantize import quantize
from speechbrain_ee.inference.asr import EarlyExitASR

OPSET = 20
EXAMPLE_BATCH, EXAMPLE_FRAMES = 3, 50  # shapes while tracing; both axes are dynamic in the graphs
OLDEST_TORCH = (2, 8)
MAX_GRAPH_BYTES = 2**31 - 2**20  # limit of protobuf, less room for the nodes

logger = logging.getLogger(__name__)


def export_model(asr: EarlyExitASR, out: str | Path, *, int8: bool = False) -> dict:
    """Write the graphs of a model and ``export.json``.

    Arguments
    ---------
    asr : EarlyExitASR
        The model, on the CPU, in float32.
    out : str or Path
        Folder to write; created if missing. The calibration of the model is copied, unless the graphs are quantised.
    int8 : bool
        Quantise the layers, see :func:`~speechbrain_ee.export.quantize.quantize`; features and heads stay in float32.

    Returns
    -------
    dict
        Contents of ``export.json``.

    Raises
    ------
    ValueError
        If the model has parts that cannot be exported.
    ImportError
        If onnx or onnxscript is not installed.
    """
    _check(asr)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    features, encoder, heads = (asr.mods[name].eval() for name in ("features", "encoder", "heads"))
    encoder = scale_rows(export_form(encoder)) if int8 else export_form(encoder)
    num_exits, width, vocab = len(encoder.exit_layers), encoder.d_model, heads.config["vocab_size"]
    state = _example(EXAMPLE_FRAMES, width)
    first = _example(EXAMPLE_FRAMES * max(4, encoder.min_frames), encoder.frame_size)
    graphs: dict = {"segments": [], "exits": []}
    wavs = _example(asr.sample_rate)
    inputs = {"wavs": wavs[0], "num_samples": wavs[1]}
    graphs["features"] = _write(features_form(features), out / "features.onnx", inputs, ["feats", "num_frames"])
    for index in range(num_exits):
        example = first if index == 0 else state
        outputs = ["y", "out_lengths"] if index == 0 else ["y"]
        inputs = {"x": example[0], "lengths": example[1]}
        path = out / f"segment{index}.onnx"
        graphs["segments"].append(_write(SegmentForm(encoder, index), path, inputs, outputs, int8=int8))
        outputs = ["log_probs", "best_log_probs", "best_tokens", "scores"]
        inputs = {"x": state[0], "lengths": state[1]}
        graphs["exits"].append(_write(ExitForm(encoder, heads, index), out / f"exit{index}.onnx", inputs, outputs))
    pair = [_example(EXAMPLE_FRAMES, vocab)[0].log_softmax(-1) for _ in range(2)]
    inputs = {"log_probs": pair[0], "previous_log_probs": pair[1], "lengths": state[1]}
    graphs["change"] = _write(ChangeForm(), out / "change.onnx", inputs, ["change"])
    values = {
        "format": FORMAT,
        "model": _fingerprint(asr.fingerprint, graphs) if int8 else asr.fingerprint,
        "precision": "int8" if int8 else "fp32",
        "sample_rate": asr.sample_rate,
        "min_seconds": asr.min_seconds,
        "max_part_s": asr.max_part_s,
        "max_output_frames": encoder.max_output_frames,
        "exit_layers": list(encoder.exit_layers),
        "params": asr.exit_parameters(),
        "score_names": list(GRAPH_SCORES),
        "cost": encoder.cost_model(heads.macs(1))._asdict(),
        "vocab": asr.hparams.tokenizer.vocab_list,
        "graphs": graphs,
    }
    write_whole(out / EXPORT_FILE, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())
    (out / CALIBRATION_FILE).unlink(missing_ok=True)
    if asr.calibration is not None and not int8:
        policy_from_dict(asr.calibration["policy"])
        write_whole(out / CALIBRATION_FILE, (json.dumps(asr.calibration, indent=2) + "\n").encode())
    return values


def _fingerprint(model: str, graphs: Mapping) -> str:
    """Return the fingerprint of a quantised model: its scores differ, so no calibration of the original fits it."""
    return hashlib.sha256(f"{model} {json.dumps(graphs, sort_keys=True)}".encode()).hexdigest()[:16]


def _check(asr: EarlyExitASR) -> None:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        raise ValueError(f"export needs torch 2.8 or newer, and torch {torch.__version__} is installed: upgrade it")
    if any(find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise ImportError('export needs onnx and onnxscript: pip install "speechbrain_ee[onnx]"')
    if asr.fingerprint is None:
        raise ValueError("the model was not loaded from files: load it with EarlyExitASR.from_hparams")


def _example(frames: int, *size: int) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([frames, frames - 1, frames // 2])
    return torch.randn(EXAMPLE_BATCH, frames, *size, generator=torch.Generator().manual_seed(0)), lengths


def _write(
    module: nn.Module, path: Path, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], *, int8: bool = False
) -> dict:
    """Write a graph with dynamic batch and length; return its entry in ``export.json``."""
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    axes = [{0: batch, 1: time} if one.dim() > 1 else {0: batch} for one in inputs.values()]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=tuple(axes),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            verbose=False,
        )
    size = sum(tensor.const_value.nbytes for tensor in program.model.graph.initializers.values())
    if size > MAX_GRAPH_BYTES:
        raise ValueError(
            f"{path.name} would have {size} bytes, and ONNX files end at 2 GB: use exits after fewer layers"
        )
    data = program.model_proto.SerializeToString()
    if int8:
        data = quantize(data)
    write_whole(path, data)
    return {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
