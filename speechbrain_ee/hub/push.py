# SPDX-License-Identifier: Apache-2.0
"""Publish a bundle on the HuggingFace Hub, in one commit, with huggingface_hub's client."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ee_runtime.files import parse_json
from speechbrain_ee.hub.card import CARD_FILE
from speechbrain_ee.hub.contents import CONTENTS_FILE, check_contents
from speechbrain_ee.hub_download import check_name
from speechbrain_ee.hub_errors import HubError, hub_errors


class Pushed(NamedTuple):
    """What was published.

    Arguments
    ---------
    url : str
        Page of the commit.
    removed : list[str]
        Files of the bundle that was there before, which are not in this one.
    """

    url: str
    removed: list[str]


def check_card(folder: str | Path, name: str) -> None:
    """Check that the examples of the model card are for this name.

    Raises
    ------
    HubError
        If they are for another name.
    """
    text = (Path(folder) / CARD_FILE).read_text("utf-8")
    named = set(re.findall(r'from_hparams\("([^"]+)"\)', text)) - {name}
    if named:
        raise HubError(
            f"the examples of the model card are for {', '.join(sorted(named))}, not for {name}: make the bundle again "
            f"with --hub-name {name}"
        )


def push(folder: str | Path, name: str, *, private: bool = False) -> Pushed:
    """Publish a bundle as a model on the Hub; the token is that of the logged-in user or of HF_TOKEN.

    Large files are transferred first. After an interruption, the same call transfers only what is missing. Then all
    files appear in one commit, so a reader never sees half of an update. Files of an earlier bundle that are not in
    this one are removed; other files that somebody added on the Hub stay.

    Arguments
    ---------
    folder : str | Path
        A folder that :func:`~speechbrain_ee.hub.bundle.make_bundle` wrote.
    name : str
        ``user/name``; the model is created if it does not exist.
    private : bool
        Whether the model must be visible to its owner only.

    Returns
    -------
    Pushed
        What was published.

    Raises
    ------
    ValueError
        If the folder is not an unchanged bundle.
    HubError
        If the model card is for another name, the token is missing or has no permission, ``private`` is asked of a
        public model, or the transfer fails.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    sizes = check_contents(folder)
    check_name(name)
    check_card(folder, name)
    api = HfApi()
    with hub_errors(name):
        api.create_repo(name, private=private or None, exist_ok=True)
        info = api.model_info(name)
        if private and not info.private:
            raise HubError(f"{name} exists and is public: make it private on its page, or leave out --private")
        there = {one.rfilename for one in info.siblings or []}
        removed = sorted(_files_of_bundle_there(api, name, there) - set(sizes))
        operations = [CommitOperationAdd(one, str(Path(folder) / one)) for one in sizes]
        operations += [CommitOperationDelete(one, is_folder=False) for one in removed]
        commit = api.create_commit(name, operations, commit_message="Publish with speechbrain-ee")
    return Pushed(url=commit.commit_url, removed=removed)


def _files_of_bundle_there(api, name: str, there: Iterable[str]) -> set[str]:
    """Return the files on the Hub that belong to the bundle that was published before."""
    there = set(there)
    if CONTENTS_FILE not in there:
        return set()
    contents = parse_json(Path(api.hf_hub_download(name, CONTENTS_FILE)).read_bytes())
    files = contents.get("files") if isinstance(contents, dict) else None
    return there & set(files if isinstance(files, dict) else {})
