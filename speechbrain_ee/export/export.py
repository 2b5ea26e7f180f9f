# SPDX-License-Identifier: Apache-2.0
"""Export a trained model as ONNX graphs that :class:`ee_runtime.EarlyExitRuntime` runs without torch."""

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch

from ee_runtime.calibration.file import CALIBRATION_FILE
from ee_runtime.export_folder import EXPORT_FILE, FORMAT, FORMAT_WITH_ATTENTION
from ee_runtime.files import make_folder, write_whole
from ee_runtime.interfaces import CHANGE, EXIT, EXIT_WITH_STATE, FEATURES, FIRST_SEGMENT, SEGMENT
from ee_runtime.policies import policy_from_dict
from ee_runtime.text.error_units import WORD
from speechbrain_ee.export.attention import attention_values, write_attention
from speechbrain_ee.export.features import features_form
from speechbrain_ee.export.forms import export_form
from speechbrain_ee.export.graphs import GRAPH_SCORES, ChangeForm, ExitForm, SegmentForm
from speechbrain_ee.export.pretrained_forms import scale_rows
from speechbrain_ee.export.write import EXAMPLE_FRAMES, GraphWriter, example_batch
from speechbrain_ee.inference.asr import EarlyExitASR

OLDEST_TORCH = (2, 8)
OWN_GRAPH = re.compile(r"(features|change|(segment|exit|memory|step)\d+)\.onnx")

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
    make_folder(out)
    with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as folder:
        values = _values(asr, _write_graphs(asr, Path(folder), int8=int8), int8=int8)
        calibration = None if int8 else asr.calibration
        if calibration is not None:
            policy_from_dict(calibration["policy"])
        _replace_graphs(out, Path(folder))
    write_whole(out / EXPORT_FILE, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())
    if calibration is not None:
        write_whole(out / CALIBRATION_FILE, (json.dumps(calibration, indent=2) + "\n").encode())
    return values


def _write_graphs(asr: EarlyExitASR, folder: Path, *, int8: bool) -> dict:
    """Write the graphs; return their entries in ``export.json``."""
    features, encoder, heads = (asr.mods[name].eval() for name in ("features", "encoder", "heads"))
    encoder = scale_rows(export_form(encoder)) if int8 else export_form(encoder)
    state = example_batch(EXAMPLE_FRAMES, encoder.d_model)
    first = example_batch(EXAMPLE_FRAMES * max(4, encoder.min_frames), encoder.frame_size)
    writer, graphs = GraphWriter(folder), {"segments": [], "exits": []}
    audio = example_batch(asr.sample_rate)
    graphs["features"] = writer.write("features", features_form(features), audio, FEATURES)
    for index in range(len(encoder.exit_layers)):
        example, interface = (first, FIRST_SEGMENT) if index == 0 else (state, SEGMENT)
        segment = SegmentForm(encoder, index)
        graphs["segments"].append(writer.write(f"segment{index}", segment, example, interface, int8=int8))
        interface = EXIT_WITH_STATE if heads.has_decoders and heads.decoder(index) is not None else EXIT
        graphs["exits"].append(writer.write(f"exit{index}", ExitForm(encoder, heads, index), state, interface))
    pair = [example_batch(EXAMPLE_FRAMES, heads.config["vocab_size"])[0].log_softmax(-1) for _ in range(2)]
    graphs["change"] = writer.write("change", ChangeForm(), (*pair, state[1]), CHANGE)
    return graphs | (write_attention(writer, heads.decoders, int8=int8) if heads.has_decoders else {})


def _values(asr: EarlyExitASR, graphs: dict, *, int8: bool) -> dict:
    """Return the contents of ``export.json``."""
    encoder, heads = asr.mods.encoder, asr.mods.heads
    return {
        "format": FORMAT_WITH_ATTENTION if heads.has_decoders else FORMAT,
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
        **({} if asr.error_unit == WORD else {"error_unit": asr.error_unit.name}),
        **({"attention": attention_values(heads)} if heads.has_decoders else {}),
        "graphs": graphs,
    }


def _replace_graphs(out: Path, new: Path) -> None:
    """Replace the export in a folder by new graphs; it has no ``export.json`` until all of them are there."""
    for name in (EXPORT_FILE, CALIBRATION_FILE):
        (out / name).unlink(missing_ok=True)
    for path in out.glob("*.onnx"):
        if OWN_GRAPH.fullmatch(path.name):
            path.unlink()
    for path in new.iterdir():
        path.replace(out / path.name)


def _fingerprint(model: str, graphs: Mapping) -> str:
    """Return the fingerprint of a quantised model: its scores differ, so no calibration of the original fits it."""
    return hashlib.sha256(f"{model} {json.dumps(graphs, sort_keys=True)}".encode()).hexdigest()[:16]


def _check(asr: EarlyExitASR) -> None:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        raise ValueError(f"export needs torch 2.8 or newer, and torch {torch.__version__} is installed: upgrade it")
    if any(find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise ImportError('export needs onnx and onnxscript: pip install "speechbrain_ee[onnx]"')
    for name, module, key, refused in (
        ("encoders", asr.mods.encoder, "attention_type", "RoPEMHA"),
        ("exit heads", asr.mods.heads, "kind", "blstm"),
    ):
        if module.config.get(key) == refused:
            raise ValueError(f"{name} with {key} {refused} cannot be exported: train a model with another {key}")
    if asr.fingerprint is None:
        raise ValueError("the model was not loaded from files: load it with EarlyExitASR.from_hparams")
