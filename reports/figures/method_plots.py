"""Figures of methods: what is lost on unseen domains, how sure ranks are, learning curves."""

from __future__ import annotations

import textwrap
from itertools import accumulate

import pandas as pd

from reports.figures.drawing import SHADE, Drawing, Style, legend_below, short_titles
from reports.records.formatting import number
from reports.records.frames import rows
from reports.tables.leaderboard import Leaderboard

_NAME_LINE, _WHOLE_NAME = 30, 120
"""Characters of a line of a name beside the ranks, and of the longest name that is not cut."""


def seen_and_unseen(board: Leaderboard, style: Style) -> Drawing | None:
    """A line for each method from its Dice on seen domains to that on unseen ones."""
    from matplotlib import pyplot as plt

    shown = rows(board.table[board.table["gap"].notna()])
    if not shown:
        return None
    figure, axes = plt.subplots(figsize=(3.6, 0.9 + 0.42 * len(shown)))
    for place, row in enumerate(reversed(shown)):
        color = style.palette[row.method]
        axes.plot([row.dice, row.seen], [place, place], color=color, linewidth=2.5, alpha=0.55, zorder=2)
        (seen,) = axes.plot(row.seen, place, "o", color=color, markersize=8, zorder=3)
        seen.set(markerfacecolor=style.theme.paper, markeredgewidth=1.8)
        axes.plot(row.dice, place, "o", color=color, markersize=8, zorder=3)
    axes.set_yticks(range(len(shown)), [style.short[row.method] for row in reversed(shown)], color=style.theme.ink)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Macro Dice (open: seen, filled: unseen)")
    listed = "; ".join(f"{row.label}: seen {number(row.seen)}, unseen {number(row.dice)}" for row in shown)
    alt = f"Macro Dice on seen and unseen domains. {listed}."
    return Drawing("gap", "What is lost on unseen domains", alt, figure)


def rank_map(board: Leaderboard, style: Style) -> Drawing | None:
    """How often each automatic method takes each rank when the images are drawn again."""
    import seaborn as sns
    from matplotlib import pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap

    sure = board.comparison.ranks if board.comparison is not None else None
    if board.comparison is None or sure is None:
        return None
    names = board.comparison.methods
    shares = pd.DataFrame(sure.probabilities, index=names, columns=range(1, len(names) + 1))
    scale = LinearSegmentedColormap.from_list("shade", [(*SHADE, 0.0), (*SHADE, 0.8)])
    words = shares.map(lambda share: f"{100 * share:.0f}" if share >= 0.005 else "")
    figure, axes = plt.subplots(figsize=(max(2.2, 0.46 * len(names)), 0.6 + 0.34 * len(names)))
    sns.heatmap(
        shares, vmin=0, vmax=1, cmap=scale, annot=words, fmt="", linewidths=1.5, linecolor=style.theme.paper, ax=axes,
        cbar=False, annot_kws={"size": 9, "color": style.theme.ink},
    )  # fmt: skip
    axes.set_yticklabels([style.short[name] for name in names], color=style.theme.ink, rotation=0)
    axes.set_xlabel("Rank (% of resamples)")
    axes.grid(visible=False)
    listed = "; ".join(
        f"{style.short[name]}: first in {100 * share:.0f} %, expected rank {expected:.1f}"
        for name, share, expected in zip(names, sure.first, sure.expected, strict=True)
    )
    alt = f"Ranks by macro Dice when the images are drawn again. {listed}."
    return Drawing("ranks", "How sure the ranks are", alt, figure)


def critical_difference_diagram(board: Leaderboard, style: Style) -> Drawing | None:
    """Average ranks over domains, a method a line; an upright bar joins methods that the domains can't tell apart.

    After Demsar, JMLR 7, 2006, turned by a quarter: names of any length, and any number of methods, stay readable.
    """
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    found = board.comparison.over_domains if board.comparison is not None else None
    if board.comparison is None or found is None:
        return None
    names, ranks = board.comparison.methods, found.average_ranks
    order = sorted(range(len(names)), key=lambda index: ranks[index])
    whole = short_titles(board, _WHOLE_NAME)
    # The mark of the start stays with the last word.
    labels = [textwrap.fill(whole[names[index]].replace(" · ", "\u00a0·\u00a0"), _NAME_LINE) for index in order]
    labels = [label.replace("\u00a0", " ") for label in labels]
    # Lines of text, a little more between methods: a name of three lines takes the room of three.
    steps = [1 + 0.75 * label.count("\n") for label in labels]
    places = dict(zip(order, accumulate(steps, lambda before, step: before + step), strict=True))
    places = {index: place - step / 2 for (index, place), step in zip(places.items(), steps, strict=True)}
    last = max(ranks.max(), 1 + found.difference)
    columns = _bar_columns([(places[clique[0]], places[clique[-1]]) for clique in found.cliques])
    width = 1 + max(columns, default=-1)
    figure, axes = plt.subplots(figsize=(2.9 + 0.13 * width, 0.75 + 0.245 * (sum(steps) + 1.5)))
    apart = (last - 1) * 0.13 / 2.7
    for index in order:
        color = style.palette[names[index]]
        axes.plot([1, ranks[index]], [places[index]] * 2, color=style.theme.line, linewidth=0.8, zorder=1)
        axes.plot(ranks[index], places[index], style.markers[names[index]], color=color, markersize=7, zorder=3)
    for column, clique in zip(columns, found.cliques, strict=True):
        ends = [places[clique[0]] - 0.3, places[clique[-1]] + 0.3]
        across = last + apart * (column + 1.5)
        axes.plot([across] * 2, ends, color=style.theme.ink, linewidth=3.5, solid_capstyle="round", clip_on=False)
    axes.plot([1, 1 + found.difference], [-1.2, -1.2], color=style.theme.muted, linewidth=1.5, marker="|", markersize=7)
    axes.annotate(
        f"critical difference {found.difference:.2f}", (1, -0.45), va="center", color=style.theme.muted, fontsize=10
    )
    axes.set_yticks([places[index] for index in order], labels, color=style.theme.ink)
    axes.set_ylim(sum(steps) + 0.2, -1.8)
    axes.set_xlim(1 - 0.04 * (last - 1), last + apart * (width + 1))
    ticks = MaxNLocator(nbins=6, integer=True).tick_values(1, len(names))
    axes.set_xticks([tick for tick in (1, *ticks[1:]) if 1 <= tick <= len(names)])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"Average rank over {found.blocks} domains; a bar joins\nmethods without a significant difference")
    listed = "; ".join(f"{whole[names[index]]} {ranks[index]:.2f}" for index in order)
    joined = "; ".join(", ".join(whole[names[index]] for index in clique) for clique in found.cliques)
    alt = f"Average ranks over {found.blocks} domains: {listed}. Critical difference at 5 %: {found.difference:.2f}."
    alt += f" No significant difference within: {joined}." if joined else " All differ significantly."
    return Drawing("critical-difference", "Critical differences over domains", alt, figure)


def _bar_columns(spans: list[tuple[float, float]]) -> list[int]:
    """For every bar from top to bottom the first column in which it meets no other."""
    ends: list[float] = []
    columns = []
    for top, bottom in spans:
        column = next((place for place, end in enumerate(ends) if end < top), len(ends))
        ends[column : column + 1] = [bottom]
        columns.append(column)
    return columns


def learning_curves(board: Leaderboard, curves: pd.DataFrame, style: Style) -> Drawing | None:
    """Validation Dice by epoch: the mean over folds and seeds, with the range between them."""
    import seaborn as sns
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    data = curves.dropna(subset=["validation_dice"]) if "validation_dice" in curves else curves.iloc[:0]
    # One epoch is a point, not a curve.
    if data.empty or data["epoch"].nunique() < 2:
        return None
    order = [name for name in board.table["method"] if name in set(data["method"])]
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    sns.lineplot(
        data, x="epoch", y="validation_dice", hue="method", hue_order=order, palette=style.palette, ax=axes,
        errorbar=("pi", 100), marker="o" if data["epoch"].nunique() < 30 else None, markersize=4, legend=False,
    )  # fmt: skip
    titles = dict(zip(board.table["method"], board.table["label"], strict=True))
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Dice on validation images")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    legend_below(axes, [Line2D([], [], color=style.palette[name], label=style.short[name]) for name in order])
    final = (
        data.sort_values("epoch").groupby(["method", "fold", "seed"])["validation_dice"].last().groupby("method").mean()
    )
    listed = "; ".join(f"{titles[name]} ends at {final[name]:.3f}" for name in order)
    alt = f"Validation Dice by epoch: mean over folds and seeds, band from lowest to highest. {listed}."
    return Drawing("curves", "Learning curves (domains seen in training)", alt, figure)
