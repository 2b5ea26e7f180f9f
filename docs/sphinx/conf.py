# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of the documentation site: make docs.

The source folder is the repository itself. The pages are the Markdown files that GitHub shows, so a relative link leads
to the same page on GitHub and on the site. Nothing is loaded from other sites when a page is viewed.
"""

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the extension beside this file

from speechbrain_ee import __version__

logging.getLogger("speechbrain").setLevel(logging.WARNING)  # its messages at import are not about the site

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("*.md", "docs/**/*.md", "examples/**/*.md", "recipes/**/*.md", "runtime/*.md")

project = "speechbrain_ee"
author = "The authors of speechbrain_ee"
project_copyright = author
version = release = __version__
root_doc = "README"
source_suffix = {".md": "markdown"}
include_patterns = [path.relative_to(ROOT).as_posix() for pattern in PAGES for path in ROOT.glob(pattern)]
exclude_patterns = [".*", "build", "data", "dist", "results", "site", "tests"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "repository_pages"]

# Markdown as on GitHub, with its anchors of headings.
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # GitHub allows a heading that skips a level

# SpeechBrain's docstring sections. "Example" is known to napoleon; "Arguments" is its "Parameters".
napoleon_google_docstring = False
napoleon_custom_sections = [("Arguments", "params_style")]
napoleon_use_rtype = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True}
add_module_names = True
python_maximum_signature_line_length = 88
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"speechbrain_ee {__version__}"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sphinx = False
# The address of a site leads to the README.
templates_path = ["."]
html_additional_pages = {"index": "index.html"}
