"""Figures of domains: the heat map, and how the images of each domain spread."""

from __future__ import annotations

import math
from typing import Any

from reports.figures.drawing import SHADE, SHADE_OPACITY, Drawing, Style, shortened
from reports.records.frames import rows
from reports.tables.leaderboard import Leaderboard

MAX_BOXES = 8
"""Methods in a panel of distributions: the first of the ranking."""
_ACROSS = 4


def heat_map(board: Leaderboard, style: Style, *, unseen: bool) -> Drawing | None:
    """Methods against domains, shaded as the tables are."""
    import seaborn as sns
    from matplotlib import pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap

    # A method with holes has no mean to be held against; the tables show what it has.
    whole = board.table.loc[board.table["track"] != "incomplete", "method"].tolist()
    domains = list(dict.fromkeys(board.domains["domain"]))
    if not whole or not domains:
        return None
    wide = board.domains.pivot_table("dice", "domain", "method", sort=False).loc[domains, whole].astype(float)
    # The tables' shading: one colour that grows denser from 0 to 1, over the page's paper in either theme.
    scale = LinearSegmentedColormap.from_list("shade", [(*SHADE, 0.0), (*SHADE, SHADE_OPACITY)])
    # Domains go down: their names are long, and a phone has more height than width.
    figure, axes = plt.subplots(figsize=(max(2.4, 0.62 * len(whole)), 0.6 + 0.3 * len(domains)))
    sns.heatmap(
        wide, vmin=0, vmax=1, cmap=scale, annot=True, fmt=".2f", linewidths=1.5, linecolor=style.theme.paper, ax=axes,
        cbar=False, annot_kws={"size": 9, "color": style.theme.ink},
    )  # fmt: skip
    names = [style.short[name] for name in whole]
    axes.set_xticklabels(names, rotation=35, ha="right", rotation_mode="anchor", color=style.theme.ink)
    axes.set_yticklabels([shortened(name, 48) for name in domains], color=style.theme.ink, rotation=0)
    axes.set_xlabel("")
    axes.set_ylabel("")
    axes.grid(visible=False)
    alt = f"Dice of {len(whole)} methods on {len(domains)} domains; the table “By domain” has the same values."
    left = len(board.table) - len(whole)
    alt += f" Left out because incomplete: {left}." if left else ""
    title = f"{'Unseen' if unseen else 'Test'} Dice by domain" + (", complete methods only" if left else "")
    return Drawing("heat", title, alt, figure)


def distributions(board: Leaderboard, style: Style, *, unseen: bool) -> Drawing | None:
    """The spread of the Dice over the images of each domain, a small panel each: quartiles, whiskers at 5 and 95 %.

    All panels share their axes, and methods are named beside them: what stands on one line is one method.
    """
    from matplotlib import pyplot as plt

    names = board.table.loc[board.table["track"] != "incomplete", "method"].tolist()[:MAX_BOXES]
    spread = board.spread[board.spread["method"].isin(names)].dropna(subset=["median"])
    if spread.empty:  # a run that stopped before its first trial ended
        return None
    domains = [name for name in dict.fromkeys(board.domains["domain"]) if name in set(spread["domain"])]
    down = math.ceil(len(domains) / _ACROSS)
    across = math.ceil(len(domains) / down)
    figure, grid = plt.subplots(
        down, across, figsize=(2.6 + 1.7 * across, 0.5 + down * (0.5 + 0.2 * len(names))), sharex=True, sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    listed = []
    for axes, domain in zip(grid.flat, domains, strict=False):
        boxes = {row.method: row for row in rows(spread[spread["domain"] == domain])}
        shown = [name for name in names if name in boxes]
        drawn = axes.bxp(
            [_box(boxes[name]) for name in shown], positions=[names.index(name) for name in shown], widths=0.66,
            orientation="horizontal", showfliers=False, patch_artist=True, manage_ticks=False,
        )  # fmt: skip
        for name, patch in zip(shown, drawn["boxes"], strict=True):
            patch.set(facecolor=style.palette[name], edgecolor=style.theme.ink, linewidth=0.9)
        for line in (line for part in ("whiskers", "caps", "medians") for line in drawn[part]):
            line.set(color=style.theme.ink, linewidth=0.9)
        axes.set_label(domain)
        axes.set_title(_two_lines(domain), fontsize=9, loc="left", color=style.theme.ink)
        medians = ", ".join(f"{style.short[name]} {boxes[name].median:.2f}" for name in shown)
        listed.append(f"{domain}: {medians}")
    first = grid[0][0]
    first.set_xlim(-0.02, 1.02)
    first.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    first.set_ylim(len(names) - 0.4, -0.6)
    first.set_yticks(range(len(names)), [style.short[name] for name in names])
    for place, axes in enumerate(grid.flat):
        axes.set_visible(place < len(domains))
        axes.tick_params(axis="y", labelcolor=style.theme.ink)
        axes.tick_params(axis="x", labelbottom=place + across >= len(domains))
        axes.grid(axis="y", visible=False)
    figure.supxlabel("Dice of the images", fontsize=10)
    alt = f"Quartiles of the images' Dice in {len(domains)} domains, whiskers at 5 and 95 %. Medians: {'; '.join(listed)}."
    left = len(board.table) - len(names)
    alt += f" Left out (incomplete, or behind the first {MAX_BOXES}): {left}." if left else ""
    return Drawing("spread", f"Spread of the {'unseen' if unseen else 'test'} Dice by domain", alt, figure)


def _box(row: Any) -> dict[str, float]:
    """A row of the spread table in matplotlib's words."""
    return {
        "whislo": row.low,
        "q1": row.lower_quartile,
        "med": row.median,
        "q3": row.upper_quartile,
        "whishi": row.high,
    }


def _two_lines(domain: str) -> str:
    """The modality above the name of the domain."""
    modality, _, name = domain.partition("/")
    return "\n".join(shortened(part, 26) for part in (modality, name) if part)
