# SPDX-License-Identifier: Apache-2.0
"""HyperPyYAML files with options of the command line, and what is wrong with either in one line."""

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAMLError


def load_hparams(path: str, overrides: str = "") -> dict:
    """Load a HyperPyYAML file, which builds every object in it: only for files that are trusted.

    Arguments
    ---------
    path : str
        The file.
    overrides : str
        YAML that replaces top-level keys, as SpeechBrain makes it from the command line.

    Returns
    -------
    dict
        The hyperparameters.

    Raises
    ------
    ValueError
        If an option is unknown or given twice, the file is no YAML, or a class does not take what it is given.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("lr: 0.1")
    >>> load_hparams(path, "lr: 0.2")
    {'lr': 0.2}
    >>> load_hparams(path, "rate: 0.2")
    Traceback (most recent call last):
    ValueError: Override 'rate' not found in: ['lr']
    """
    with open(path, encoding="utf-8") as file:
        try:
            return load_hyperpyyaml(file, overrides)
        except (KeyError, TypeError) as error:
            raise ValueError(": ".join(map(str, error.args))) from error
        except YAMLError as error:
            reason = getattr(error, "problem", None) or str(error)
            raise ValueError(f"{path} and the options of the command: {reason}") from error
