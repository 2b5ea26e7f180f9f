# SPDX-License-Identifier: Apache-2.0
"""Load the recipes' scripts, which are not in a package, as modules."""

import importlib.util
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes"


def load_script(path):
    """Load a script by its path in recipes/."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
