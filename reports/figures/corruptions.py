"""Figure of corruptions: mean Dice against severity, a small panel for each corruption."""

from __future__ import annotations

import math

import pandas as pd

from reports.figures.drawing import Drawing, Style, shortened
from reports.records.formatting import number
from reports.tables.leaderboard import Leaderboard

MOST_LINES = 8
"""Methods in a panel: the first of the ranking."""
_ACROSS = 4


def dice_by_severity(board: Leaderboard, style: Style) -> Drawing | None:
    """The mean Dice of the images that have a corruption, clean (severity 0) and at each severity; a line for each method."""
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    whole = board.table.loc[board.table["track"] != "incomplete", "method"]
    found = board.corruptions[board.corruptions["method"].isin(whole)]
    names = [name for name in whole if name in set(found["method"])][:MOST_LINES]
    panels = list(dict.fromkeys(found["corruption"]))
    if not panels:
        return None
    down = math.ceil(len(panels) / _ACROSS)
    across = min(_ACROSS, len(panels))
    figure, grid = plt.subplots(
        down, across, figsize=(1.9 * across, 0.4 + 1.55 * down), sharey=True, squeeze=False, layout="constrained"
    )
    top = float(found.loc[found["method"].isin(names), ["clean", "dice"]].max().max())
    listed = []
    for axes, panel in zip(grid.flat, panels, strict=False):
        lines = {name: _line(found, name, panel) for name in names}
        for name, line in lines.items():
            axes.plot(
                list(line), list(line.values()), marker=style.markers[name], color=style.palette[name], markersize=4.5,
                linewidth=1.5,
            )  # fmt: skip
        ticks = sorted({severity for line in lines.values() for severity in line})
        axes.set_xticks(ticks, ["clean" if tick == 0 else str(tick) for tick in ticks], fontsize=9)
        axes.set_ylim(0, min(1.02, 1.15 * top + 0.02))
        axes.tick_params(axis="y", labelsize=9)
        axes.set_title(title_of(panel).replace(" (", "\n("), fontsize=9)
        ends = ", ".join(
            f"{style.short[name]} {number(line[0], 2)} to {number(line[max(line)], 2)}"
            for name, line in lines.items()
            if line
        )
        listed.append(f"{title_of(panel)}: {ends}")
    for place, axes in enumerate(grid.flat):
        axes.set_visible(place < len(panels))
        if place + across >= len(panels):
            axes.set_xlabel("Severity", fontsize=9)
        if place % across == 0:
            axes.set_ylabel("Mean Dice", fontsize=9)
    handles = [
        Line2D(
            [], [], color=style.palette[n], marker=style.markers[n], markersize=5, label=shortened(style.short[n], 24)
        )
        for n in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=across, fontsize=9, columnspacing=1.2)
    alt = f"Mean Dice of clean images and of the same images when corrupted, to the highest severity. {'; '.join(listed)}."
    left = len(set(board.corruptions["method"])) - len(names)
    alt += f" Left out (incomplete, or behind the first {MOST_LINES}): {left}." if left else ""
    return Drawing("corruptions", "Dice under corruption, by severity", alt, figure)


def _line(table: pd.DataFrame, method: str, corruption: str) -> dict[int, float]:
    """Severity -> mean Dice, 0 standing for the clean images; {} where the method has no such images."""
    rows = table[(table["method"] == method) & (table["corruption"] == corruption)].sort_values("severity")
    if rows.empty:
        return {}
    corrupted = dict(zip(rows["severity"].astype(int), rows["dice"].astype(float), strict=True))
    return {0: float(rows["clean"].iloc[0]), **corrupted}


def title_of(corruption: str) -> str:
    """The corruption's title, and the modality of one that occurs in a single one; of an unknown corruption its name."""
    from harness.data.corruptions.registry import CORRUPTIONS

    known = CORRUPTIONS.get(corruption)
    if known is None:
        return corruption
    return known.title + (f" ({known.modalities[0]})" if len(known.modalities) == 1 else "")
