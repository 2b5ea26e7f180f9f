# SPDX-License-Identifier: Apache-2.0
"""Load a trained model with its tokenizer and calibration from a run folder, a model folder or the HuggingFace Hub."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from ee_runtime.calibration.file import read_calibration
from ee_runtime.files import check_not_pointer
from ee_runtime.text.error_units import ErrorUnit, unit_of
from speechbrain_ee.inference.source import ModelSource
from speechbrain_ee.model.fingerprint import fingerprint
from speechbrain_ee.model.folder import MODEL_FILES, TOKENIZER_FILE, ModelError, load_config, load_model
from speechbrain_ee.text.tokenizer import Tokenizer


class LoadedModel(NamedTuple):
    """A trained model in memory.

    Arguments
    ---------
    modules : nn.ModuleDict
        ``features``, ``encoder`` and ``heads``.
    tokenizer : Tokenizer
        The tokenizer of the model.
    fingerprint : str
        :func:`~speechbrain_ee.model.fingerprint.fingerprint` of the model's files.
    calibration : dict | None
        Contents of ``calibration.json``; None without one.
    error_unit : ErrorUnit
        The unit of errors that the model was selected by.
    """

    modules: nn.ModuleDict
    tokenizer: Tokenizer
    fingerprint: str
    calibration: dict | None
    error_unit: ErrorUnit


def load_from_source(
    files: ModelSource, *, calibration_file: str | Path | None, needs_calibration: bool
) -> LoadedModel:
    """Load a model from its source.

    Arguments
    ---------
    files : ModelSource
        The files of the model.
    calibration_file : str | Path | None
        A ``calibration.json`` of this model; None means the one in the source, if there is one.
    needs_calibration : bool
        Whether a calibration in the source that does not fit the model is an error. Otherwise it is ignored with a
        warning.

    Returns
    -------
    LoadedModel
        The model on the CPU.

    Raises
    ------
    ModelError
        If files are missing or broken, or do not belong together.
    ValueError
        If the calibration belongs to another model.
    """
    paths = [files.get(name) for name in MODEL_FILES]
    config = load_config(paths[0])
    modules = load_model(config, paths[1])
    tokenizer = Tokenizer(paths[2])
    vocab_size = modules["heads"].config["vocab_size"]
    if tokenizer.vocab_size != vocab_size:
        raise ModelError(
            f"{files.source}: {TOKENIZER_FILE} has {tokenizer.vocab_size} tokens, the exit heads have {vocab_size}: "
            "replace it by the tokenizer that the model was trained with"
        )
    model = fingerprint(paths)
    if calibration_file is None:
        calibration = files.calibration(model, is_needed=needs_calibration)
    else:
        check_not_pointer(calibration_file)
        calibration = read_calibration(calibration_file, model)
    return LoadedModel(modules, tokenizer, model, calibration, unit_of(config))
