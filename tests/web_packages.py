#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Download the npm packages of the browser tests into the cache of `speechbrain-ee app`: python tests/web_packages.py.

`make test` runs it, so that the tests themselves need no connection. Without one, the browser tests are skipped.
"""

import argparse
import sys

from speechbrain_ee.app.npm_package import NpmPackage, cache_folder, download
from speechbrain_ee.app.onnxruntime_web import PACKAGE

AXE = NpmPackage(  # checks that a page can be used with a screen reader, with the keyboard, and with weak eyes
    "axe-core",
    "4.14.1",
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
)
PACKAGES = (PACKAGE, AXE)


def cached(package: NpmPackage):
    """Return the path of a package in the cache; None if it is not there."""
    path = cache_folder() / package.file
    return path if path.is_file() else None


def main() -> None:
    """Download what is missing; a lack of a connection is no error."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    try:
        for package in PACKAGES:
            download(package)
    except OSError as error:
        print(f"{error}: the tests of the page in a browser are skipped", file=sys.stderr)


if __name__ == "__main__":
    main()
