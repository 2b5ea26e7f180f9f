# SPDX-License-Identifier: Apache-2.0
"""How a model is opened, in plain values, so that another process can open it in the same way. Imports no NumPy."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # importing it takes a part of the time that is measured
    from ee_runtime.transcriber import Transcriber


class Opener(NamedTuple):
    """A model and what opens it.

    Arguments
    ---------
    source : str
        The model: a folder or a name.
    module : str
        Module of the class.
    name : str
        The class, or one of its methods, that is called with ``source``.
    options : dict
        Its other arguments.
    command : str
        Start of the command line that transcribes with this model.
    """

    source: str
    module: str
    name: str
    options: dict
    command: str

    def load(self) -> Callable[..., Transcriber]:
        """Import what opens the model."""
        return attrgetter(self.name)(import_module(self.module))

    def open(self) -> Transcriber:
        """Open the model."""
        return self.load()(self.source, **self.options)


def export_opener(folder: str, threads: int) -> Opener:
    """Return what opens an export.

    Example
    -------
    >>> export_opener("exported", threads=1).command
    'ee-transcribe --model exported --threads 1'
    """
    command = f"ee-transcribe --model {shlex.quote(folder)} --threads {threads}"
    return Opener(folder, "ee_runtime.runtime", "EarlyExitRuntime", {"threads": threads}, command)
