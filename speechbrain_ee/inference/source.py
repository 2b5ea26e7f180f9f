# SPDX-License-Identifier: Apache-2.0
"""Files of a trained model in a run folder, a model folder, or on the HuggingFace Hub."""

import filecmp
import json
import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from speechbrain.utils.fetching import FetchConfig, LocalStrategy, link_with_strategy
from speechbrain.utils.logger import get_logger

from ee_runtime.calibration.file import CALIBRATION_FILE, read_calibration
from ee_runtime.files import check_not_pointer, write_whole
from speechbrain_ee.hub_download import check_no_revision, download, is_hub_name, may_be_on_hub
from speechbrain_ee.hub_errors import HubError
from speechbrain_ee.model.folder import CONFIG_FILE, MODEL_FILES, ModelError

logger = get_logger(__name__)

SOURCE_FILE = ".source.json"  # in a savedir: the source of its files


class ModelSource:
    """The files of a model, by name.

    Arguments
    ---------
    source : str | Path
        Run folder, model folder, or name on the Hub.
    savedir : str | Path | None
        Folder for links to (or copies of) the files; None means none, or the cache of the Hub.
    local_strategy : LocalStrategy
        SpeechBrain's option: link or copy into ``savedir``.
    fetch_config : FetchConfig | None
        SpeechBrain's options: revision, token, overwriting. The token of a logged-in user is always sent.
    revision : str | None
        Branch, tag or commit on the Hub; None means that of ``fetch_config``, or the newest commit.

    Raises
    ------
    ModelError
        If the source is neither a folder nor a possible name on the Hub, ``savedir`` holds another model, or a revision
        is given for a folder.

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
        revision: str | None = None,
    ):
        self.source, self.local_strategy = source, local_strategy
        self.fetch_config = fetch_config or FetchConfig()
        if revision is not None:
            self.fetch_config = replace(self.fetch_config, revision=revision)
        self.is_local = Path(source).is_dir()
        if self.is_local:
            check_no_revision(source, revision)
        is_used = savedir is not None and local_strategy != LocalStrategy.NO_LINK and not _is_same(savedir, source)
        self.savedir = Path(savedir) if is_used else None
        if not self.is_local and not may_be_on_hub(source):
            raise ModelError(f"{source}: {_why_not(str(source))}")
        if self.is_local and is_hub_name(source) and not os.path.lexists(Path(source) / CONFIG_FILE):
            raise ModelError(
                f"{source}: this folder has no {CONFIG_FILE} and hides a model of the same name on the Hub: give a run "
                "folder or a model folder, or for the Hub rename the folder or use another working folder"
            )
        if self.savedir is not None:
            self._take_savedir()

    def _take_savedir(self) -> None:
        """Record the source in ``savedir``; refuse a ``savedir`` with files of another model, as they would be used."""
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
                f"savedir {self.savedir} has {there[0]} of {what}, not of {self.source}: empty it or give another one"
            )
        try:
            self.savedir.mkdir(parents=True, exist_ok=True)
            write_whole(note, (json.dumps(own) + "\n").encode())
        except OSError as error:
            raise ModelError(f"savedir {self.savedir} cannot be written: {error.strerror or error}") from None

    def _is_own(self, name: str) -> bool:
        """Return whether a file in ``savedir`` equals that of the source."""
        try:
            return _are_equal(self.folder / name, self.savedir / name)
        except OSError:
            return False

    @cached_property
    def folder(self) -> Path:
        """The folder of the files without a ``savedir``; a model on the Hub is downloaded."""
        if self.is_local:
            return Path(self.source)
        config = self.fetch_config
        return download(
            str(self.source),
            [*MODEL_FILES, CALIBRATION_FILE],
            revision=config.revision,
            token=config.token,
            offline=not config.allow_network,
            cache_dir=config.huggingface_cache_dir,
        )

    def _path(self, name: str) -> Path:
        """Return the path of a file, which may be missing."""
        original = self.folder / name
        if self.savedir is None:
            return original
        place = self.savedir / name
        if original.is_file() and not _are_equal(original, place):  # the original may have changed
            link_with_strategy(original, place, self.local_strategy)
        return place

    def get(self, name: str) -> Path:
        """Return the path of a file of the model; download it if needed.

        Raises
        ------
        ModelError
            If the file is missing or cannot be downloaded.
        """
        try:
            path = self._path(name)
            if not path.is_file():
                where = path if self.is_local or os.path.lexists(path) else f"{name} on the Hub"
                raise FileNotFoundError(
                    f"{where} does not exist" if not os.path.lexists(path) else f"{path} is not a file"
                )
            check_not_pointer(path)
            return path
        except HubError as error:
            raise ModelError(str(error)) from None
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(
                f"{self.source}: cannot get {name}: {reason}; give a run folder, a model folder or a Hub name"
            ) from None

    def calibration(self, model: str, *, is_needed: bool) -> dict | None:
        """Read the ``calibration.json`` of the model, if there is one.

        Arguments
        ---------
        model : str
            Fingerprint of the model's files.
        is_needed : bool
            Whether a calibration that is broken or belongs to another model is an error; otherwise it is ignored with a
            warning.

        Raises
        ------
        ValueError
            If it is needed, and broken or of another model.
        """
        if not (self.folder / CALIBRATION_FILE).exists():
            return None
        try:
            path = self._path(CALIBRATION_FILE)
            check_not_pointer(path)
            return read_calibration(path, model)
        except ValueError as error:
            if is_needed:
                raise
            logger.warning("%s; the calibration is ignored", error)
        return None


def _are_equal(one: Path, other: Path) -> bool:
    return other.is_file() and (one.samefile(other) or filecmp.cmp(one, other, shallow=False))


def _is_same(one: str | Path, other: str | Path) -> bool:
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)


def _why_not(source: str) -> str:
    """Return why a source is neither a folder nor looked up on the Hub."""
    if os.path.lexists(source):
        return "not a folder, or a broken link; give a run folder, a model folder or a Hub name (user/model)"
    if is_hub_name(source):
        return (
            "no such folder; give a run folder, a model folder or a Hub name (user/model), which is looked up only if "
            f"there is no folder {Path(source).parent}/"
        )
    return "no such folder; give a run folder, a model folder or a Hub name (user/model)"
