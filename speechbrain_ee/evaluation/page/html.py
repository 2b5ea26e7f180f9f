# SPDX-License-Identifier: Apache-2.0
"""Write the report page: data, style, script and plotly's JavaScript in one HTML file."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Mapping
from pathlib import Path

from ee_runtime.files import write_whole
from speechbrain_ee import __version__

HERE = Path(__file__).parent


def write_page(path: str | Path, test_sets: Mapping[str, Mapping], *, title: str) -> None:
    """Write the HTML file.

    Arguments
    ---------
    path : str or Path
        The HTML file.
    test_sets : mapping
        Results of :func:`~speechbrain_ee.evaluation.page.data.collect`, by name of the test set.
    title : str
        Title of the page.

    Raises
    ------
    ImportError
        If plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ImportError('the page needs plotly: pip install "speechbrain_ee[report]"') from None
    data = json.dumps(test_sets, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    parts = {
        "TITLE": html.escape(title),
        "VERSION": __version__,
        "STYLE": (HERE / "page.css").read_text("utf-8"),
        "DATA": base64.b64encode(gzip.compress(data.encode(), mtime=0)).decode(),  # reduces the size to a third
        "PLOTLY": get_plotlyjs(),
        "SCRIPT": (HERE / "page.js").read_text("utf-8"),
    }
    page = (HERE / "page.html").read_text("utf-8")
    for name, text in parts.items():
        page = page.replace(f"<!--{name}-->", text)
    write_whole(Path(path), page.encode())
