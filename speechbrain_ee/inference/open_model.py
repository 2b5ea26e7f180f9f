# SPDX-License-Identifier: Apache-2.0
"""Open a model of any kind: an export with onnxruntime, every other model with torch."""

from pathlib import Path

from ee_runtime.export_folder import EXPORT_FILE
from ee_runtime.policies import Policy
from ee_runtime.transcriber import Transcriber
from speechbrain_ee.hub_download import onnx_folder

RUNTIMES = ("onnx", "torch")


def is_export(source: str | Path) -> bool:
    """Whether a source is a folder that ``speechbrain-ee export`` wrote."""
    return (Path(source) / EXPORT_FILE).exists()


def needs_torch(source: str | Path, runtime: str | None = None) -> bool:
    """Whether a model runs in torch.

    Arguments
    ---------
    source : str | Path
        The model.
    runtime : str | None
        ``onnx`` or ``torch``; None means onnx for an export, else torch.
    """
    return runtime == "torch" or (runtime is None and not is_export(source))


def open_model(
    source: str | Path,
    *,
    revision: str | None = None,
    runtime: str | None = None,
    policy: Policy | None = None,
    calibration_file: str | Path | None = None,
    decoding: str = "greedy",
    decoder_options: dict | None = None,
    run_opts: dict | None = None,
    threads: int | None = None,
) -> Transcriber:
    """Open a model with its decoder.

    Arguments
    ---------
    source : str | Path
        Export, run folder, model folder, or name on the Hub.
    revision : str | None
        Branch, tag or commit on the Hub; None means the newest commit.
    runtime : str | None
        ``onnx`` or ``torch``; None means onnx for an export, else torch. A bundle with an export runs in both.
    policy : Policy | None
        See :class:`~speechbrain_ee.inference.asr.EarlyExitASR`.
    calibration_file : str | Path | None
        A ``calibration.json`` of this model; None means its own.
    decoding : str
        Name of the decoding; an export has those of :func:`ee_runtime.decoders.make.make_decoder`.
    decoder_options : dict | None
        Options of :func:`~speechbrain_ee.decoders.make.make_decoder`; an export takes ``beam_size``.
    run_opts : dict | None
        SpeechBrain's run options; an export takes none.
    threads : int | None
        CPU threads of an export; torch's are set at the start of the program.

    Returns
    -------
    Transcriber
        The model.

    Raises
    ------
    ValueError
        If an option needs torch and the model is an export, or the model cannot be loaded.
    """
    options = {name: value for name, value in (decoder_options or {}).items() if value is not None}
    if needs_torch(source, runtime):
        from speechbrain_ee.inference.asr import EarlyExitASR

        asr = EarlyExitASR.from_hparams(
            source, calibration_file=calibration_file, policy=policy, run_opts=run_opts, revision=revision
        )
        asr.decoder = asr.make_decoder(decoding, **options)
        return asr
    if others := sorted({*options, *(run_opts or {})} - {"beam_size"}):
        raise ValueError(f"{source} runs in onnxruntime, which does not take {', '.join(others)}: leave it out")
    from ee_runtime import EarlyExitRuntime
    from ee_runtime.sessions import silence

    silence()
    settings = {"policy": policy, "calibration_file": calibration_file, "decoding": decoding} | options
    return EarlyExitRuntime(onnx_folder(source, revision), threads=threads, **settings)
