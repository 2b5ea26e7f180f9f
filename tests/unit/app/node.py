# SPDX-License-Identifier: Apache-2.0
"""Run the JavaScript modules of the page in node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from speechbrain_ee.app.build import PAGE

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node: install Node.js 20 or newer")


def run_node(folder: Path, script: str, values: object) -> object:
    """Run a module that can import those of the page; it gets `values`, and what it passes to `give` is returned.

    NaN is null in JSON, as in `utterances.jsonl`.
    """
    folder = folder / "node"
    folder.mkdir()
    for path in PAGE.glob("*.js"):
        shutil.copy(path, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "values.json").write_text(json.dumps(values, allow_nan=False))
    head = 'import fs from "node:fs";\nconst values = JSON.parse(fs.readFileSync("values.json"));\n'
    head += 'const give = (result) => fs.writeFileSync("result.json", JSON.stringify(result));\n'
    (folder / "script.js").write_text(head + script)
    done = subprocess.run([NODE, "script.js"], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "result.json").read_text())
