# SPDX-License-Identifier: Apache-2.0
"""Where a trained model comes from: a run folder, a bundle, or a name on the HuggingFace Hub."""

import filecmp
import json
import os
from pathlib import Path

from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch, link_with_strategy
from speechbrain.utils.logger import get_logger

from speechbrain_ee.calibration.file import CALIBRATION_FILE, read_calibration
from speechbrain_ee.files import check_not_pointer, write_whole
from speechbrain_ee.model.folder import CONFIG_FILE, MODEL_FILES, ModelError

logger = get_logger(__name__)

SOURCE_FILE = ".source.json"  # in a savedir: what its files are of


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
        self.source, self.local_strategy = source, local_strategy
        self.fetch_config = fetch_config or FetchConfig()
        self.is_local = Path(source).is_dir()
        is_used = savedir is not None and local_strategy != LocalStrategy.NO_LINK and not _is_same(savedir, source)
        self.savedir = Path(savedir) if is_used else None
        if not self.is_local and not _may_be_on_the_hub(str(source)):
            raise ModelError(f"{source}: {_why_not(str(source))}")
        if self.is_local and _is_hub_name(str(source)) and not os.path.lexists(Path(source) / CONFIG_FILE):
            raise ModelError(
                f"{source}: this folder has no {CONFIG_FILE}, and hides a model of that name on the Hub: give a run "
                "folder or a bundle, or for the Hub rename the folder or run from another one"
            )
        if self.savedir is not None:
            self._take_savedir()

    def _take_savedir(self) -> None:
        """Note in ``savedir`` what it holds, and refuse one that holds another model: its files would be used."""
        where = str(Path(self.source).resolve()) if self.is_local else str(self.source)
        own = {"source": where, "revision": self.fetch_config.revision}
        note = self.savedir / SOURCE_FILE
        try:
            found = json.loads(note.read_text("utf-8"))
        except (OSError, ValueError):
            found = None
        if found == own:
            return
        names = [*MODEL_FILES, CALIBRATION_FILE]
        there = [name for name in names if os.path.lexists(self.savedir / name)]
        if there and not self.fetch_config.overwrite and not all(self._is_own(name) for name in there):
            what = found.get("source", "another model") if isinstance(found, dict) else "another model"
            raise ModelError(
                f"{self.savedir} holds {there[0]} of {what}, not of {self.source}: give another savedir, or empty it"
            )
        try:
            self.savedir.mkdir(parents=True, exist_ok=True)
            write_whole(note, (json.dumps(own) + "\n").encode())
        except OSError as error:
            raise ModelError(f"savedir {self.savedir} cannot be written: {error.strerror or error}") from None

    def _is_own(self, name: str) -> bool:
        """Whether a file that is in ``savedir`` is the one of the source."""
        try:
            return _are_equal(self._original(name), self.savedir / name)
        except (OSError, ValueError, EntryNotFoundError):
            return False

    def _original(self, name: str) -> Path:
        """The file where it is without a ``savedir``."""
        if self.is_local:
            return Path(self.source) / name
        return Path(fetch(name, str(self.source), fetch_config=self.fetch_config))

    def _fetch(self, name: str) -> Path:
        if self.savedir is None:
            return self._original(name)
        if not self.is_local:
            options = {"local_strategy": self.local_strategy, "fetch_config": self.fetch_config}
            return Path(fetch(name, str(self.source), self.savedir, **options))
        original, place = self._original(name), self.savedir / name
        if original.is_file() and not _are_equal(original, place):  # it may have changed since
            link_with_strategy(original, place, self.local_strategy)
        return place

    def get(self, name: str) -> Path:
        """Path of a file that the model needs.

        Raises
        ------
        ModelError
            If it cannot be had, or is no file.
        """
        try:
            path = self._fetch(name)
            if not path.is_file():
                raise FileNotFoundError(f"{path} does not exist" if not os.path.lexists(path) else f"{path} is no file")
            check_not_pointer(path)
            return path
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
            path = self._fetch(CALIBRATION_FILE)
            check_not_pointer(path)
            return read_calibration(path, model)
        except EntryNotFoundError as error:  # a model on the Hub without one, or one that is out of reach
            if isinstance(error, LocalEntryNotFoundError):  # a ValueError too, up to huggingface_hub 0.36
                logger.warning(
                    "%s: %s is not in the cache and the Hub is out of reach: full depth", self.source, CALIBRATION_FILE
                )
        except ValueError as error:
            if is_needed:
                raise
            logger.warning("%s; it is not used", error)
        return None


def _are_equal(one: Path, other: Path) -> bool:
    return other.is_file() and (one.samefile(other) or filecmp.cmp(one, other, shallow=False))


def _is_same(one: str | Path, other: str | Path) -> bool:
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)


def _is_hub_name(source: str) -> bool:
    """Whether a source has the form ``user/model``."""
    user, _, model = source.partition("/")
    return bool(user not in ("", ".", "..", "~") and model and "/" not in model)


def _may_be_on_the_hub(source: str) -> bool:
    """Whether a source that is no folder here is looked for on the Hub; a mistyped path is not."""
    return _is_hub_name(source) and not Path(source).parent.is_dir()


def _why_not(source: str) -> str:
    """Why a source is neither a folder nor looked for on the Hub."""
    if os.path.lexists(source):
        return "it is no folder, or a link that leads nowhere; give a run folder, a bundle or a Hub name (user/model)"
    if _is_hub_name(source):
        return (
            "no such folder; give a run folder, a bundle or a Hub name (user/model), which is looked up from a folder "
            f"that has no {Path(source).parent}/ of its own"
        )
    return "no such folder; give a run folder, a bundle or a Hub name (user/model)"
