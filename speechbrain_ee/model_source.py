# SPDX-License-Identifier: Apache-2.0
"""Where a trained model comes from: a run folder, a bundle, or a name on the HuggingFace Hub."""

from pathlib import Path

from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch
from speechbrain.utils.logger import get_logger

from speechbrain_ee.calibration_file import CALIBRATION_FILE, read_calibration
from speechbrain_ee.model import ModelError

logger = get_logger(__name__)


class ModelSource:
    """The files of a model, by name.

    Arguments
    ---------
    source : str | Path
        Folder of a run or a bundle, or a name on the Hub.
    savedir : str | Path | None
        Where to put links to (or copies of) the files; None means nowhere, or the Hub's own cache.
    local_strategy : LocalStrategy
        SpeechBrain's: link or copy into ``savedir``.
    fetch_config : FetchConfig | None
        SpeechBrain's: revision, token, overwriting.

    Raises
    ------
    ModelError
        If the source is neither a folder nor what a name on the Hub can be.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "config.json").write_text("{}")
    >>> ModelSource(folder).get("config.json") == folder / "config.json"
    True
    """

    def __init__(
        self,
        source: str | Path,
        *,
        savedir: str | Path | None = None,
        local_strategy: LocalStrategy = LocalStrategy.SYMLINK,
        fetch_config: FetchConfig | None = None,
    ):
        self.source, self.savedir, self.local_strategy = source, savedir, local_strategy
        self.fetch_config = fetch_config or FetchConfig()
        self.is_local = Path(source).is_dir()
        if not self.is_local and not _may_be_on_the_hub(str(source)):
            raise ModelError(f"{source}: no such folder; give a run folder, a bundle or a Hub name (user/model)")

    def _fetch(self, name: str) -> Path:
        if self.is_local and self.savedir is None:
            return Path(self.source) / name
        options = {"local_strategy": self.local_strategy, "fetch_config": self.fetch_config}
        return Path(fetch(name, str(self.source), self.savedir, **options))

    def get(self, name: str) -> Path:
        """Path of a file that the model needs.

        Raises
        ------
        ModelError
            If it cannot be had.
        """
        try:
            return self._fetch(name)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(
                f"{self.source}: cannot get {name}: {reason}; give a run folder, a bundle or a Hub name"
            ) from None

    def calibration(self, model: str, *, is_needed: bool) -> dict | None:
        """Read the ``calibration.json`` that travels with the model, if there is one.

        Arguments
        ---------
        model : str
            Fingerprint of the model's files.
        is_needed : bool
            Whether one that does not belong to the model is an error; else it is not used, with a warning.

        Raises
        ------
        ValueError
            If it is needed and not of this model, or broken.
        """
        if self.is_local and not (Path(self.source) / CALIBRATION_FILE).exists():
            return None
        try:
            return read_calibration(self._fetch(CALIBRATION_FILE), model)
        except ValueError as error:
            if is_needed:
                raise
            logger.warning("%s; it is not used", error)
        except EntryNotFoundError as error:  # a model on the Hub without one, or one that is out of reach
            if isinstance(error, LocalEntryNotFoundError):
                logger.warning(
                    "%s: %s is not in the cache and the Hub is out of reach: full depth", self.source, CALIBRATION_FILE
                )
        return None


def _may_be_on_the_hub(source: str) -> bool:
    """Whether a source that is no folder here can be ``user/model``; a mistyped path would be looked for online."""
    user, slash, model = source.partition("/")
    return bool(slash and user not in ("", ".", "..", "~") and model and "/" not in model and not Path(user).is_dir())
