# SPDX-License-Identifier: Apache-2.0
"""Download a model from the HuggingFace Hub. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path

from speechbrain_ee.hub_errors import HubError, hub_errors

ONNX_FOLDER = "onnx"  # in a bundle: the export of the model


def is_hub_name(source: str | Path) -> bool:
    """Return whether a source has the form ``user/model``.

    Example
    -------
    >>> [is_hub_name(one) for one in ("user/model", "./model", "results/conformer_ee/1234", "model")]
    [True, False, False, False]
    """
    user, _, model = str(source).partition("/")
    return bool(user not in ("", ".", "..", "~") and model and "/" not in model)


def may_be_on_hub(source: str | Path) -> bool:
    """Return whether a source is looked up on the Hub: no folder, and no mistyped path in a folder that exists."""
    return not Path(source).is_dir() and is_hub_name(source) and not Path(source).parent.is_dir()


def check_name(name: str) -> str:
    """Check that a name has the form ``user/name``; return it.

    Raises
    ------
    HubError
        If it has another form, or characters that the Hub refuses.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        if name.count("/") != 1:
            raise HFValidationError
    except HFValidationError:
        raise HubError(
            f"{name!r} is not a name on the Hub: give user/name, with letters, digits, -, _ and . (at most 96)"
        ) from None
    return name


def check_no_revision(source: str | Path, revision: str | None) -> None:
    """Check that no revision is given for a model that is not on the Hub."""
    if revision is not None:
        raise HubError(f"revision {revision} is of a model on the Hub, and {source} is a folder: leave it out")


def download(
    name: str,
    patterns: Sequence[str],
    *,
    revision: str | None = None,
    token: bool = False,
    offline: bool = False,
    cache_dir: str | None = None,
) -> Path:
    """Download files of a model into the cache; return the folder of this revision.

    All files are of one commit. Files that are in the cache are not downloaded again, and an interrupted download is
    resumed. If the Hub cannot be reached, the newest cached revision is used.

    Arguments
    ---------
    name : str
        ``user/name``.
    patterns : Sequence[str]
        Names of the files; ``*`` stands for any text.
    revision : str | None
        Branch, tag or commit; None means the newest commit.
    token : bool
        Whether a token is required. The token of the logged-in user is always sent.
    offline : bool
        Whether only the cache is used.
    cache_dir : str | None
        The cache; None means that of huggingface_hub.

    Raises
    ------
    HubError
        If the model or the revision does not exist, access is refused, or files cannot be downloaded or written.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    with hub_errors(name if revision is None else f"{name}, revision {revision}"):
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(patterns),
            token=True if token else None,
            local_files_only=offline,
            cache_dir=cache_dir,
        )
    return Path(folder)


def onnx_folder(source: str | Path, revision: str | None = None) -> Path:
    """Return the folder of the ONNX graphs of a model: an export, or the export in a bundle, here or on the Hub.

    Raises
    ------
    HubError
        If a model on the Hub cannot be downloaded, or has no graphs.
    """
    if not may_be_on_hub(source):
        check_no_revision(source, revision)
        inside = Path(source) / ONNX_FOLDER
        return inside if inside.is_dir() else Path(source)
    folder = download(str(source), [f"{ONNX_FOLDER}/*"], revision=revision) / ONNX_FOLDER
    if not folder.is_dir():
        raise HubError(f"{source} has no folder {ONNX_FOLDER}/: leave out --runtime onnx, or export it first")
    return folder
