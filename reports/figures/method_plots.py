"""Figures of methods: Dice against cost, what is lost on unseen domains, how sure ranks are, learning curves."""

from __future__ import annotations

import textwrap
from itertools import accumulate
from typing import Any

import pandas as pd

from reports.figures.drawing import SHADE, Drawing, Style, legend_below, plain_log_ticks, short_titles
from reports.records.formatting import number
from reports.records.frames import rows
from reports.tables.leaderboard import Leaderboard

_COSTS = {
    "parameters": ("parameters_total", "Parameters", "parameters", False),
    "gmacs": ("gmacs", "GMACs for one image", "GMACs", False),
    "throughput": ("throughput_0", "Images/s", "speed", True),
}
"""Name -> column of the table, label of the axis, what a method without cost has none of, whether more is better."""

_NAME_LINE, _WHOLE_NAME = 30, 120
"""Characters of a line of a name beside the ranks, and of the longest name that is not cut."""


def dice_against_cost(board: Leaderboard, style: Style, cost: str, *, unseen: bool) -> Drawing | None:
    """Dice and its interval against one kind of cost, with the Pareto front of the automatic methods."""
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    key, label, unit, more_is_better = _COSTS[cost]
    if key not in board.table:
        return None
    whole = board.table[board.table["dice"].notna()]
    costs = pd.to_numeric(whole[key])
    priced, free, unmeasured = rows(whole[costs > 0]), rows(whole[costs == 0]), rows(whole[costs.isna()])
    if not priced:
        return None
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    handles: list[Any] = []
    for row in priced:
        bars = None if pd.isna(row.dice_low) else [[row.dice - row.dice_low], [row.dice_high - row.dice]]
        color = style.palette[row.method]
        handles.append(
            axes.errorbar(
                getattr(row, key), row.dice, yerr=bars, fmt=style.markers[row.method], color=color, markersize=8, capsize=3,
                elinewidth=1.2, markerfacecolor=color if row.track == "automatic" else "none", label=style.short[row.method],
            )
        )  # fmt: skip
    front = pareto_front(
        [(float(getattr(row, key)), float(row.dice)) for row in priced if row.track == "automatic"], more_is_better
    )
    if len(front) > 1:
        axes.plot(*zip(*front, strict=True), color=style.theme.muted, linewidth=1.2, linestyle=(0, (1, 2)), zorder=1)
        handles.append(Line2D([], [], color=style.theme.muted, linestyle=(0, (1, 2)), label="Pareto front"))
    for row in free:
        name = f"{style.short[row.method]}, no {unit}"
        handles.append(
            axes.axhline(row.dice, color=style.palette[row.method], linestyle=(0, (4, 3)), linewidth=1.2, label=name)
        )
    # Not measured is not free: named, but not drawn.
    handles += [
        Line2D([], [], linestyle="none", label=f"{style.short[row.method]}: cost not measured") for row in unmeasured
    ]
    spent = [getattr(row, key) for row in priced]
    axes.set_xscale("log")
    axes.set_xlim(min(spent) / 2, max(spent) * 2)
    axes.set_xlabel(f"{label} (log scale)")
    axes.set_ylabel("Macro unseen-domain Dice" if unseen else "Macro test Dice")
    plain_log_ticks(axes)
    legend_below(axes, handles)
    where = f" on {board.hardware[0]}" if cost == "throughput" else ""
    listed = "; ".join(f"{row.label}: Dice {number(row.dice)} at {getattr(row, key):.3g}" for row in priced)
    alt = f"Macro Dice against {label}{where}. {listed}."
    alt += "".join(f" {row.label}, no {unit}: Dice {number(row.dice)}." for row in free)
    alt += f" Cost not measured: {', '.join(row.label for row in unmeasured)}." if unmeasured else ""
    best = [row.label for row in priced if (float(getattr(row, key)), float(row.dice)) in front]
    alt += f" On the Pareto front: {', '.join(best)}." if best else ""
    return Drawing(f"cost-{cost}", f"Dice against {label.lower() if cost != 'gmacs' else label}", alt, figure)


def latency_by_size(board: Leaderboard, style: Style) -> Drawing | None:
    """The time of one image against its side, on the first machine that speeds were measured on."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator

    if not board.hardware:
        return None
    measured = board.costs[board.costs["machine"] == board.hardware[0]]
    timed = [
        row for row in rows(measured) if isinstance(row.latency_ms_by_size, dict) and len(row.latency_ms_by_size) > 1
    ]
    if not timed:
        return None
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    handles, listed = [], []
    for row in timed:
        sides = [int(side) for side in row.latency_ms_by_size]
        times, grows = list(row.latency_ms_by_size.values()), f"side^{row.size_exponent:.1f}"
        handles += axes.plot(
            sides, times, marker=style.markers[row.method], color=style.palette[row.method], markersize=6,
            label=f"{style.short[row.method]} ({grows})",
        )  # fmt: skip
        steps = ", ".join(f"{time:.3g} ms at {side} px" for side, time in zip(sides, times, strict=True))
        listed.append(f"{style.short[row.method]}: {steps} ({grows})")
    axes.set_xscale("log")
    axes.set_yscale("log")
    sides = sorted({int(side) for row in timed for side in row.latency_ms_by_size})
    axes.xaxis.set_major_locator(FixedLocator(sides))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(side) for side in sides])
    plain_log_ticks(axes, "y")
    axes.set_xlabel("Image side, pixels (log scale)")
    axes.set_ylabel("Milliseconds an image (log scale)")
    legend_below(axes, handles)
    alt = f"Time of one image by its side, plain float32 networks on {board.hardware[0]}. {'; '.join(listed)}."
    return Drawing("latency-by-size", "Time by image size", alt, figure)


def pareto_front(points: list[tuple[float, float]], more_is_better: bool = False) -> list[tuple[float, float]]:
    """Those (cost, value) that no other beats in both; by rising cost. `more_is_better`: of the first, too, as of a speed."""
    sign = -1 if more_is_better else 1
    front: list[tuple[float, float]] = []
    for cost, value in sorted(set(points), key=lambda point: (sign * point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((cost, value))
    return sorted(front)


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
