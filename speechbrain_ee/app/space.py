# SPDX-License-Identifier: Apache-2.0
"""The page's README.md, which makes its folder a static Space on the HuggingFace Hub."""

from __future__ import annotations

import json

from speechbrain_ee import __version__
from speechbrain_ee.app.model_files import PageModel
from speechbrain_ee.app.onnxruntime_web import PACKAGE

# With these headers, a browser lets the page use several threads.
HEADERS = {
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "cross-origin",
}


def readme(title: str, model: PageModel) -> str:
    """Return the contents of README.md: the settings of a static Space, and what the folder is."""
    settings = {
        "title": title,
        "emoji": "\N{EAR}",
        "colorFrom": "blue",
        "colorTo": "green",
        "sdk": "static",
        "app_file": "index.html",
        "pinned": False,
        "short_description": "Early-exit speech recognition in the browser",
        "tags": ["automatic-speech-recognition", "early-exit", "speechbrain", "onnx"],
        "custom_headers": HEADERS,
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()]
    layers = ", ".join(map(str, model.export.exit_layers))
    return "\n".join(
        [
            "---",
            *lines,
            "---",
            "",
            f"# {title}",
            "",
            "This folder is a web page that recognises speech in the browser. It uploads no audio and no text.",
            f"The model has exits after layers {layers}; the page stops each recording at the first exit that is "
            "certain enough.",
            "",
            "Any web server can serve the folder. With the HuggingFace command line, it becomes a static Space:",
            "",
            "```",
            "hf upload USER/NAME . . --repo-type=space",
            "```",
            "",
            f"Written by `speechbrain-ee app` of speechbrain_ee {__version__} (Apache-2.0). The folder "
            f"`{PACKAGE.name}` has files of {PACKAGE.name} {PACKAGE.version} (MIT licence, Microsoft Corporation). The "
            "folder `model` has the licence of the model.",
            "",
        ]
    )
