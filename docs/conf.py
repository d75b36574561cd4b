"""Sphinx: `make docs` builds the site into build/site. Nothing is fetched, neither when it is built nor when it is read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.generated import expand  # noqa: E402
from harness import __version__  # noqa: E402

project = "delightsam-bench"
author = "the delightsam-bench authors"
project_copyright = "Apache-2.0"
release = version = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["**/.*", "__pycache__"]
# Every heading down to this level can be linked to, and a link to one that is not there is a warning.
myst_heading_anchors = 4
nitpicky = True

html_theme = "furo"
html_title = "delightsam-bench"
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
# The theme's fonts are the reader's own.
html_theme_options = {"footer_icons": [], "navigation_with_keys": True}


def _expand(_app: Any, _page: str, source: list[str]) -> None:
    source[0] = expand(source[0])


def setup(app: Any) -> dict[str, bool]:
    """Fills in what is generated from the code before a page is parsed."""
    app.connect("source-read", _expand)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
