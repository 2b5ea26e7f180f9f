# SPDX-License-Identifier: Apache-2.0
"""How a model is opened in any process, on any machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ee_runtime.policies import Policy
from ee_runtime.transcriber import Transcriber
from speechbrain_ee.inference.open_model import needs_torch, open_model
from speechbrain_ee.inference.settings import result_settings
from speechbrain_ee.startup import prepare_process


@dataclass(frozen=True)
class ModelOptions:
    """The arguments of :func:`~speechbrain_ee.inference.open_model.open_model`, which travel to other processes.

    Paths are made absolute, since a process on another machine starts in another folder. ``expected`` are model and
    code of the first process, see :meth:`expecting`.

    Example
    -------
    >>> ModelOptions("user/model").source, os.path.isabs(ModelOptions(".").source)
    ('user/model', True)
    """

    source: str
    revision: str | None = None
    runtime: str | None = None
    policy: Policy | None = None
    calibration_file: Path | None = None
    decoding: str = "greedy"
    decoder_options: dict = field(default_factory=dict)
    run_opts: dict = field(default_factory=dict)
    threads: int | None = None
    expected: dict | None = None

    def __post_init__(self):
        options = {name: _absolute(value) if name == "lm" else value for name, value in self.decoder_options.items()}
        source = os.path.abspath(self.source) if Path(self.source).is_dir() else self.source
        paths = {"source": source, "calibration_file": _absolute(self.calibration_file), "decoder_options": options}
        for name, value in paths.items():
            object.__setattr__(self, name, value)

    def expecting(self, settings: Mapping) -> ModelOptions:
        """Return options for processes that must have the model and the code of these settings."""
        return replace(self, expected={name: settings[name] for name in ("model", "code")})

    def open(self) -> Transcriber:
        """Open the model; sets the threads of this process, if torch has not been imported yet.

        Raises
        ------
        ValueError
            If the model cannot be opened, or model or code are not as expected.
        """
        if needs_torch(self.source, self.runtime):
            prepare_process(self.threads)
        arguments = dict(vars(self))
        expected = arguments.pop("expected") or {}
        model = open_model(**arguments)
        found = result_settings(model) if expected else {}
        for name, value in expected.items():
            if found[name] != value:
                raise ValueError(f"a process has another {name} than the first: install and copy the same everywhere")
        return model


def _absolute(path: str | Path | None) -> Path | None:
    return None if path is None else Path(os.path.abspath(path))
