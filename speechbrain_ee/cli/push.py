# SPDX-License-Identifier: Apache-2.0
"""The command ``speechbrain-ee push``: publish a bundle on the HuggingFace Hub."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that speechbrain-ee bundle wrote.")],
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="Name on the Hub; created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Only you can see the model.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the bundle and list the files; send nothing.")
    ] = False,
) -> None:
    """Publish a bundle on the HuggingFace Hub.

    Log in first, with hf auth login or HF_TOKEN. Run the same command again after an interruption: only what is missing
    is transferred. The command prints the address of the commit.
    """
    from speechbrain_ee.hub.contents import check_contents
    from speechbrain_ee.hub.push import check_card
    from speechbrain_ee.hub.push import push as publish
    from speechbrain_ee.hub_download import check_name

    check_name(name)
    sizes = check_contents(folder)
    check_card(folder, name)
    for file, size in sizes.items():
        print(f"{size:>12,}  {file}", file=sys.stderr)
    print(f"{sum(sizes.values()):>12,}  bytes in {len(sizes)} files for {name}", file=sys.stderr)
    if dry_run:
        print("nothing was sent (--dry-run)", file=sys.stderr)
        return
    published = publish(folder, name, private=private)
    for file in published.removed:
        print(f"removed {file}, which the earlier bundle had", file=sys.stderr)
    print(published.url)
