"""Figures of costs: Dice against each kind of cost with its Pareto fronts, and how time grows with the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.methods.card import NO_WEIGHTS, NOT_STATED
from reports.analysis.starts import MARKS, are_mixed
from reports.figures.drawing import Drawing, Style, legend_below, plain_log_ticks
from reports.records.formatting import number
from reports.records.frames import rows
from reports.tables.leaderboard import Leaderboard

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Cost:
    """A kind of cost.

    Attributes:
        label: of the axis.
        title: what stands behind "Dice against".
        unit: what a method without cost has none of.
        timed: it belongs to a machine.
    """

    label: str
    title: str
    unit: str
    more_is_better: bool = False
    timed: bool = False


COSTS = {
    "parameters": Cost("Parameters", "parameters", "parameters"),
    "gmacs": Cost("GMACs for one image", "GMACs for one image", "GMACs"),
    "latency": Cost("Milliseconds for one image", "latency", "latency", timed=True),
    "throughput": Cost("Images/s", "images/s", "speed", more_is_better=True, timed=True),
}
"""Name -> kind; costs of time are those of plain float32 networks on the first machine that speeds were measured on."""
_LINES: tuple[Any, ...] = ((0, (1, 2)), (0, (5, 2)), (0, (5, 2, 1, 2)))
"""Of the fronts: they differ where there are several."""


def dice_against_cost(board: Leaderboard, style: Style, cost: str, *, unseen: bool) -> Drawing | None:
    """Dice and its interval against one kind of cost, with the Pareto front of the automatic methods of each start."""
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    kind, whole = COSTS[cost], board.table[board.table["dice"].notna()]
    costs = pd.to_numeric(_costs(board, whole, cost))
    whole = whole.assign(cost=costs)
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
                row.cost, row.dice, yerr=bars, fmt=style.markers[row.method], color=color, markersize=8, capsize=3,
                elinewidth=1.2, markerfacecolor=color if row.track == "automatic" else "none", label=style.short[row.method],
            )
        )  # fmt: skip
    fronts = fronts_by_start(whole[costs > 0], more_is_better=kind.more_is_better)
    handles += _drawn_fronts(axes, fronts, style)
    for row in free:
        name = f"{style.short[row.method]}, no {kind.unit}"
        handles.append(
            axes.axhline(row.dice, color=style.palette[row.method], linestyle=(0, (4, 3)), linewidth=1.2, label=name)
        )
    # Not measured is not free: named, but not drawn.
    handles += [
        Line2D([], [], linestyle="none", label=f"{style.short[row.method]}: cost not measured") for row in unmeasured
    ]
    spent = [row.cost for row in priced]
    axes.set_xscale("log")
    axes.set_xlim(min(spent) / 2, max(spent) * 2)
    axes.set_xlabel(f"{kind.label} (log scale)")
    axes.set_ylabel("Macro unseen-domain Dice" if unseen else "Macro test Dice")
    plain_log_ticks(axes)
    legend_below(axes, handles)
    alt = f"Macro Dice against {kind.label}{f' on {board.hardware[0]}' if kind.timed else ''}."
    alt += f" {'; '.join(f'{row.label}: Dice {number(row.dice)} at {row.cost:.3g}' for row in priced)}."
    alt += "".join(f" {row.label}, no {kind.unit}: Dice {number(row.dice)}." for row in free)
    alt += f" Cost not measured: {', '.join(row.label for row in unmeasured)}." if unmeasured else ""
    return Drawing(f"cost-{cost}", f"Dice against {kind.title}", alt + _front_words(priced, fronts), figure)


def _costs(board: Leaderboard, table: pd.DataFrame, cost: str) -> pd.Series[Any]:
    """Each row's cost; NaN where it was not measured."""
    if cost == "latency":
        own = board.costs[board.costs["machine"].isin(board.hardware[:1])]
        return table["method"].map(dict(zip(own["method"], own["latency_ms_p50"], strict=True)))
    key = {"parameters": "parameters_total", "throughput": "throughput_0"}.get(cost, cost)
    return table[key] if key in table else pd.Series(float("nan"), table.index)


Front = list[tuple[float, float]]


def fronts_by_start(table: pd.DataFrame, *, more_is_better: bool) -> dict[str, Front]:
    """Start -> Pareto front of its automatic rows, by the columns `cost` and `dice`; "" -> that of all, where starts are equal.

    What learns no weights fits to any start. A row whose start is not stated may equal none, and belongs to no front.
    """
    automatic = table[table["track"] == "automatic"]
    groups = {"": automatic}
    if are_mixed(table["start"]):
        starts = [each for each in automatic["start"].unique() if each not in (NO_WEIGHTS, NOT_STATED)]
        groups = {each: automatic[automatic["start"].isin([each, NO_WEIGHTS])] for each in starts}
    return {
        start: pareto_front([(float(row.cost), float(row.dice)) for row in rows(members)], more_is_better)
        for start, members in groups.items()
    }


def _drawn_fronts(axes: Axes, fronts: dict[str, Front], style: Style) -> list[Any]:
    """Draws a line for each front of two points or more; their marks for the legend."""
    from matplotlib.lines import Line2D

    handles = []
    for index, (start, front) in enumerate(fronts.items()):
        if len(front) > 1:
            line = _LINES[index % len(_LINES)]
            axes.plot(*zip(*front, strict=True), color=style.theme.muted, linewidth=1.2, linestyle=line, zorder=1)
            name = f"Pareto front, {MARKS[start]}" if start else "Pareto front"
            handles.append(Line2D([], [], color=style.theme.muted, linestyle=line, label=name))
    return handles


def _front_words(priced: list[Any], fronts: dict[str, Front]) -> str:
    words = ""
    for start, front in fronts.items():
        own = [row for row in priced if row.track == "automatic" and (not start or row.start in (start, NO_WEIGHTS))]
        best = [row.label for row in own if (float(row.cost), float(row.dice)) in front]
        words += f" On the Pareto front{f' ({MARKS[start]})' if start else ''}: {', '.join(best)}." if best else ""
    return words


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
