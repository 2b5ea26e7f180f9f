# SPDX-License-Identifier: Apache-2.0
"""Export a model from its source into a folder: ONNX graphs, or a truncated PyTorch model."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ee_runtime.calibration.file import CALIBRATION_FILE
from ee_runtime.export_folder import EXPORT_FILE
from ee_runtime.policies import FixedExit
from speechbrain_ee.export.cut import keep_exits
from speechbrain_ee.export.export import export_model
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.model.folder import CONFIG_FILE, save_model


def export_folder(
    source: str | Path,
    out: str | Path,
    *,
    exits: Sequence[int] | None = None,
    truncate: int | None = None,
    int8: bool = False,
    revision: str | None = None,
) -> Iterator[str]:
    """Export a model; yield a line about each result.

    Arguments
    ---------
    source : str or Path
        Run folder, model folder, or name on the Hub.
    out : str or Path
        Folder to write.
    exits : sequence of int, optional
        Exit layers to keep; None means all.
    truncate : int, optional
        Write a PyTorch model of the layers up to this exit instead of ONNX graphs.
    int8 : bool
        Quantise the graphs of the layers.
    revision : str, optional
        Branch, tag or commit on the Hub; None means the newest commit.

    Raises
    ------
    ValueError
        If the folder holds another kind of model, an exit does not exist, or the model cannot be exported.
    """
    out = Path(out)
    other = EXPORT_FILE if truncate is not None else CONFIG_FILE
    if (out / other).exists():
        raise ValueError(f"{out} holds another model ({other}): give another folder")
    asr = EarlyExitASR.from_hparams(source, run_opts={"device": "cpu"}, revision=revision)
    layers = list(exits) if exits is not None else list(asr.exit_layers)
    if truncate is not None:
        layers = [layer for layer in layers if layer <= truncate]
        if truncate not in layers:
            raise ValueError(f"layer {truncate} is not an exit of the model: choose from {list(asr.exit_layers)}")
    if layers == list(asr.exit_layers) and truncate is None:
        export_model(asr, out, int8=int8)
    else:
        cut = keep_exits(asr.mods, layers)
        (out / CALIBRATION_FILE).unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) if truncate is None else out
            save_model(folder, cut, tokenizer=asr.hparams.tokenizer.path, error_unit=asr.error_unit)
            if truncate is None:
                smaller = EarlyExitASR.from_hparams(folder, policy=FixedExit(), run_opts={"device": "cpu"})
                export_model(smaller, out, int8=int8)
    is_other = int8 or layers != list(asr.exit_layers)
    if is_other and asr.calibration is not None:
        yield f"the calibration of {source} does not fit this model: evaluate and calibrate {out}"
    size = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    yield f"{out}: exits after layers {', '.join(map(str, layers))}, {size / 1e6:.1f} MB"
