"""Which static figures a report has, for the page and as files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from harness.files import atomic_path
from reports.analysis.starts import are_mixed
from reports.figures.corruptions import dice_by_severity
from reports.figures.cost_plots import COSTS, dice_against_cost, latency_by_size
from reports.figures.domain_plots import distributions, heat_map
from reports.figures.drawing import PAGE, PRINT, Drawing, Figure, Style, Theme, drawing_style, for_page
from reports.figures.method_plots import (
    critical_difference_diagram,
    learning_curves,
    rank_map,
    seen_and_unseen,
)
from reports.tables.leaderboard import Leaderboard

FORMATS = ("svg", "pdf", "png")


def draw_figures(board: Leaderboard, curves: pd.DataFrame, *, unseen: bool) -> list[Figure]:
    """All figures that the data allow, as SVG for the page."""
    with drawing_style(PAGE):
        return [for_page(drawing) for drawing in _drawings(board, curves, unseen, PAGE)]


def save_figures(board: Leaderboard, curves: pd.DataFrame, folder: Path, *, unseen: bool) -> list[Path]:
    """Writes all figures into `folder` as SVG, PDF and PNG (300 dpi), on white; returns their paths."""
    from matplotlib import pyplot as plt

    paths = []
    with drawing_style(PRINT):
        for drawing in _drawings(board, curves, unseen, PRINT):
            for kind in FORMATS:
                path = folder / f"{drawing.name}.{kind}"
                with atomic_path(path) as temporary:
                    # No dates in the files: equal results give equal bytes.
                    metadata = {
                        "svg": {"Date": None},
                        "pdf": {"CreationDate": None},
                        "png": {"Description": drawing.alt},
                    }
                    drawing.figure.savefig(
                        temporary,
                        format=kind,
                        dpi=300,
                        bbox_inches="tight",
                        facecolor=PRINT.paper,
                        metadata=metadata[kind],
                    )
                paths.append(path)
            plt.close(drawing.figure)
    return paths


def _drawings(board: Leaderboard, curves: pd.DataFrame, unseen: bool, theme: Theme) -> Iterator[Drawing]:
    style = Style.of(board, theme)
    drawn = [
        *(dice_against_cost(board, style, cost, unseen=unseen) for cost in COSTS),
        latency_by_size(board, style),
        seen_and_unseen(board, style) if unseen else None,
        rank_map(board, style),
        critical_difference_diagram(board, style),
        learning_curves(board, curves, style),
        dice_by_severity(board, style),
        heat_map(board, style, unseen=unseen),
        distributions(board, style, unseen=unseen),
    ]
    mixed = are_mixed(board.table["start"])
    yield from (_with_starts(drawing) if mixed else drawing for drawing in drawn if drawing is not None)


def _with_starts(drawing: Drawing) -> Drawing:
    """Says in title and description that the methods start unequally; their names are marked, see `short_titles`."""
    words = "Starts differ: scratch, natural (images) or medical (images) behind each name."
    return replace(drawing, title=f"{drawing.title} (unequal starts, see names)", alt=f"{drawing.alt} {words}")
