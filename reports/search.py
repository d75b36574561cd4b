"""The report of a hyperparameter search: one self-contained page, from the `search.json` that `sweep` writes."""

from __future__ import annotations

from pathlib import Path


def build_search_report(folder: Path) -> Path:
    return folder / "search.html"
