# SPDX-License-Identifier: Apache-2.0
"""Compare static with dynamic quantisation of a segment: time, and distance from float32.

python benchmarks/static_int8.py FLOAT32_EXPORT INT8_EXPORT [--rounds 40]

Prints the figures as JSON and writes them to results/static_int8.json. Both exports are of the same model; the second
was made with ``--int8``, which quantises dynamically. The second segment of the first is quantised statically, in both
of onnxruntime's forms: the same matrix products, per channel, with the range of activations from six inputs. The inputs
are noise with variance 1; one thread; runs alternate; shortest CPU times. ``error`` is the mean absolute difference
from float32, relative to the mean absolute value.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path

import numpy as np
from common import publish
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

from ee_runtime.errors import one_line_errors
from ee_runtime.export_folder import read_export
from ee_runtime.sessions import make_session

FRAMES = (50, 250, 750)  # 2, 10 and 30 s
SEGMENT = 1
FORMS = {"static, QDQ": QuantFormat.QDQ, "static, QOperator": QuantFormat.QOperator}


def inputs(frames: int, width: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return inputs of a segment."""
    x = np.random.default_rng(seed).standard_normal((1, frames, width), dtype=np.float32)
    return {"x": x, "lengths": np.array([frames])}


class Calibration(CalibrationDataReader):
    """Six inputs of different lengths."""

    def __init__(self, width: int):
        self.batches = iter([inputs(100 + 50 * number, width, number + 1) for number in range(6)])

    def get_next(self):
        """Return the next input, or None."""
        return next(self.batches, None)


def quantised(path: Path, folder: Path, form: QuantFormat, width: int) -> Path:
    """Quantise a graph statically."""
    prepared, out = folder / "prepared.onnx", folder / f"{form}.onnx"
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        out,
        Calibration(width),
        quant_format=form,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
        extra_options={"MatMulConstBOnly": True},
    )
    return out


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("float32", type=Path)
    parser.add_argument("int8", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    files = {"float32": given.float32, "dynamic": given.int8}
    paths = {name: folder / read_export(folder).segments[SEGMENT].name for name, folder in files.items()}
    figures = {"rounds": given.rounds}
    with tempfile.TemporaryDirectory() as temporary:
        width = make_session(str(paths["float32"]), 1).get_outputs()[0].shape[2]
        for name, form in FORMS.items():
            paths[name] = quantised(paths["float32"], Path(temporary), form, width)
        sessions = {name: make_session(str(path), 1) for name, path in paths.items()}
        for frames in FRAMES:
            batch, best, states = inputs(frames, width), dict.fromkeys(sessions, np.inf), {}
            for _ in range(given.rounds):
                for name, session in sessions.items():
                    begin = time.process_time()
                    (states[name],) = session.run(None, batch)
                    best[name] = min(best[name], time.process_time() - begin)
            exact = states["float32"]
            figures[f"{frames} frames"] = {
                name: {
                    "over_float32": round(best[name] / best["float32"], 3),
                    "error": round(float(np.abs(states[name] - exact).mean() / np.abs(exact).mean()), 4),
                }
                for name in list(sessions)[1:]
            }
    publish("static_int8", figures)


if __name__ == "__main__":
    with one_line_errors("static_int8.py"):
        main()
