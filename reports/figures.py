"""Static figures as SVG that lives inside the page: text stays text, and colours follow the page's light or dark theme."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.columns import number
from reports.frames import rows
from reports.leaderboard import Leaderboard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

# Drawn in these colours and replaced by the page's variables, so that one SVG serves both themes.
_INK, _MUTED, _LINE, _PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {_INK: "var(--ink)", _MUTED: "var(--muted)", _LINE: "var(--line)", _PAPER: "var(--paper)"}
_MARKERS = "osD^vPX<>p*h"
SHADE, SHADE_OPACITY = (42 / 255, 157 / 255, 143 / 255), 0.5
"""Colour (RGB, 0 to 1) of a Dice of 1 in the heat map, as of the tables' shading in leaderboard.css."""
MAX_TICKS = 5
"""On the axis of costs."""


@dataclass(frozen=True)
class Figure:
    """`svg` is ready for the page; `alt` says in words what it shows."""

    name: str
    title: str
    alt: str
    svg: str


def draw_figures(board: Leaderboard, curves: pd.DataFrame, *, unseen: bool) -> list[Figure]:
    """All figures that the data allow: Dice against cost, seen against unseen, the heat map, learning curves."""
    import matplotlib
    import seaborn as sns
    from matplotlib import pyplot as plt

    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": "report", "font.size": 10, "axes.edgecolor": _LINE, "axes.labelcolor": _INK,
        "text.color": _INK, "xtick.color": _MUTED, "ytick.color": _MUTED, "grid.color": _LINE, "axes.facecolor": "none",
        "figure.facecolor": "none", "savefig.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": True, "axes.axisbelow": True, "grid.linewidth": 0.6, "text.parse_math": False, "legend.frameon": False,
    }  # fmt: skip
    backend = matplotlib.get_backend()
    plt.switch_backend("svg")
    names = board.table["method"].tolist()
    short = _short_titles(board)
    palette = dict(zip(sorted(names), sns.color_palette("colorblind", len(names)).as_hex(), strict=True))
    try:
        with sns.axes_style("whitegrid"), matplotlib.rc_context(style):
            drawn = [
                _dice_against_cost(board, short, palette, unseen),
                _seen_and_unseen(board, short, palette) if unseen else None,
                _heat_map(board, short, unseen),
                _learning_curves(board, curves, short, palette),
            ]
    finally:
        plt.close("all")
        plt.switch_backend(backend)
    return [figure for figure in drawn if figure is not None]


def _dice_against_cost(
    board: Leaderboard, short: dict[str, str], palette: dict[str, Any], unseen: bool
) -> Figure | None:
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    whole = board.table[board.table["dice"].notna()]
    key, label = (
        ("gmacs", "GMACs for one image") if whole["gmacs"].notna().any() else ("parameters_total", "Parameters")
    )
    costs = pd.to_numeric(whole[key])
    priced = rows(whole[costs > 0])
    free = rows(whole[costs == 0])
    unmeasured = rows(whole[costs.isna()])
    if not priced:
        return None
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    markers = _markers(board)
    handles: list[Any] = []
    for row in priced:
        bars = None if pd.isna(row.dice_low) else [[row.dice - row.dice_low], [row.dice_high - row.dice]]
        color = palette[row.method]
        handles.append(
            axes.errorbar(
                getattr(row, key), row.dice, yerr=bars, fmt=markers[row.method], color=color, markersize=8, capsize=3,
                elinewidth=1.2, markerfacecolor=color if row.track == "automatic" else "none", label=short[row.method],
            )
        )  # fmt: skip
    for row in free:
        name = f"{short[row.method]}, no {label.split()[0]}"
        handles.append(
            axes.axhline(row.dice, color=palette[row.method], linestyle=(0, (4, 3)), linewidth=1.2, label=name)
        )
    # Not measured is not free: named, but not drawn.
    handles += [Line2D([], [], linestyle="none", label=f"{short[row.method]}: cost not measured") for row in unmeasured]
    spent = [getattr(row, key) for row in priced]
    axes.set_xscale("log")
    axes.set_xlim(min(spent) / 2, max(spent) * 2)
    axes.set_xlabel(f"{label} (log scale)")
    axes.set_ylabel("Macro unseen-domain Dice" if unseen else "Macro test Dice")
    _plain_log_ticks(axes)
    _legend_below(axes, handles)
    listed = "; ".join(f"{row.title}: Dice {number(row.dice)} at {getattr(row, key):.3g}" for row in priced)
    alt = f"Macro Dice against {label}. {listed}."
    alt += "".join(f" {row.title}, no {label.split()[0]}: Dice {number(row.dice)}." for row in free)
    alt += f" Cost not measured: {', '.join(row.title for row in unmeasured)}." if unmeasured else ""
    return _finish(figure, "cost", "Dice against cost", alt)


def _seen_and_unseen(board: Leaderboard, short: dict[str, str], palette: dict[str, Any]) -> Figure | None:
    from matplotlib import pyplot as plt

    shown = rows(board.table[board.table["gap"].notna()])
    if not shown:
        return None
    figure, axes = plt.subplots(figsize=(3.6, 0.9 + 0.42 * len(shown)))
    for place, row in enumerate(reversed(shown)):
        color = palette[row.method]
        axes.plot([row.dice, row.seen], [place, place], color=color, linewidth=2.5, alpha=0.55, zorder=2)
        axes.plot(
            row.seen, place, "o", color=color, markerfacecolor=_PAPER, markersize=8, markeredgewidth=1.8, zorder=3
        )
        axes.plot(row.dice, place, "o", color=color, markersize=8, zorder=3)
    axes.set_yticks(range(len(shown)), [short[row.method] for row in reversed(shown)], color=_INK)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Macro Dice (open: seen, filled: unseen)")
    listed = "; ".join(f"{row.title}: seen {number(row.seen)}, unseen {number(row.dice)}" for row in shown)
    return _finish(figure, "gap", "What is lost on unseen domains", f"Macro Dice on seen and unseen domains. {listed}.")


def _heat_map(board: Leaderboard, short: dict[str, str], unseen: bool) -> Figure | None:
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
        wide, vmin=0, vmax=1, cmap=scale, annot=True, fmt=".2f", linewidths=1.5, linecolor=_PAPER, ax=axes, cbar=False,
        annot_kws={"size": 9, "color": _INK},
    )  # fmt: skip
    axes.set_xticklabels([short[name] for name in whole], rotation=35, ha="right", rotation_mode="anchor", color=_INK)
    axes.set_yticklabels(domains, color=_INK, rotation=0)
    axes.set_xlabel("")
    axes.set_ylabel("")
    axes.grid(visible=False)
    alt = f"Dice of {len(whole)} methods on {len(domains)} domains; the table “By domain” has the same values."
    left = len(board.table) - len(whole)
    alt += f" Left out because incomplete: {left}." if left else ""
    title = f"{'Unseen' if unseen else 'Test'} Dice by domain" + (", complete methods only" if left else "")
    return _finish(figure, "heat", title, alt)


def _learning_curves(
    board: Leaderboard, curves: pd.DataFrame, short: dict[str, str], palette: dict[str, Any]
) -> Figure | None:
    import seaborn as sns
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    data = curves.dropna(subset=["validation_dice"]) if "validation_dice" in curves else curves.iloc[:0]
    # One epoch is a point, not a curve.
    if data.empty or data["epoch"].nunique() < 2:
        return None
    # "seen" in training, whatever was chosen later: the mean over folds and seeds, with the range between them.
    order = [name for name in board.table["method"] if name in set(data["method"])]
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    sns.lineplot(
        data, x="epoch", y="validation_dice", hue="method", hue_order=order, palette=palette, ax=axes, errorbar=("pi", 100),
        marker="o" if data["epoch"].nunique() < 30 else None, markersize=4, legend=False,
    )  # fmt: skip
    titles = dict(zip(board.table["method"], board.table["title"], strict=True))
    handles = [Line2D([], [], color=palette[name], label=short[name]) for name in order]
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Dice on validation images")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    _legend_below(axes, handles)
    final = (
        data.sort_values("epoch").groupby(["method", "fold", "seed"])["validation_dice"].last().groupby("method").mean()
    )
    listed = "; ".join(f"{titles[name]} ends at {final[name]:.3f}" for name in order)
    alt = f"Validation Dice by epoch: mean over folds and seeds, band from lowest to highest. {listed}."
    return _finish(figure, "curves", "Learning curves (domains seen in training)", alt)


def _markers(board: Leaderboard) -> dict[str, str]:
    return {name: _MARKERS[index % len(_MARKERS)] for index, name in enumerate(sorted(board.table["method"]))}


def _short_titles(board: Leaderboard, length: int = 28) -> dict[str, str]:
    """Titles that fit a figure. Where cutting makes two alike the name stays whole: "A long tit… (name)"."""
    titles = dict(zip(board.table["method"], board.table["title"], strict=True))
    cut = {name: _cut(title, length) for name, title in titles.items()}
    alike = Counter(cut.values())
    return {
        name: short
        if alike[short] == 1
        else f"{_cut(titles[name].removesuffix(f' ({name})'), max(8, length - len(name) - 3))} ({name})"
        for name, short in cut.items()
    }


def _cut(title: str, length: int) -> str:
    return title if len(title) <= length else title[: length - 1] + "…"


def _legend_below(axes: Axes, handles: list[Any]) -> None:
    """Not among the marks, which it would cover, and not beside the axes: a phone has no room there."""
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, borderaxespad=0, fontsize=9,
        columnspacing=1.2, handletextpad=0.6,
    )  # fmt: skip


def log_ticks(low: float, high: float, most: int = MAX_TICKS) -> list[float]:
    """Round numbers from `low` to `high` (both > 0), at most `most`: 1-2-5 steps, else powers of ten, else every nth of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / most)]


def _plain_log_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    def plain(value: float, place: int) -> str:
        return f"{value / 1e6:g} M" if value >= 1e6 else f"{value:g}"

    axes.xaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_xlim())))
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.xaxis.set_minor_locator(NullLocator())


def _finish(figure: MatplotlibFigure, name: str, title: str, alt: str) -> Figure:
    from markupsafe import escape
    from matplotlib import pyplot as plt

    text = StringIO()
    figure.savefig(
        text, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    plt.close(figure)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    # Several figures share a page: ids must not meet, and fonts and sizes are the page's.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: (?:[\w.]+ )*?([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]+;? ?", "", svg)
    opening, _, body = svg.partition(">")
    box = re.search(r'viewBox="[^"]+"', opening)
    width = re.search(r'width="([\d.]+)pt"', opening)
    if box is None or width is None:
        raise RuntimeError(f"matplotlib's SVG starts in an unknown way: {opening}")
    # At most its natural size (4/3 CSS pixels a point), so that text is as large as the page's.
    attributes = (
        f'role="img" aria-label="{escape(alt)}" {box.group()} style="max-width: {float(width.group(1)) * 4 / 3:.0f}px"'
    )
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return Figure(name, title, alt, f"<svg {attributes} {namespaces}>{body}")
