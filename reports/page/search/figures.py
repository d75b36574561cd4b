"""Figures of a hyperparameter search: progress, curves, parallel coordinates, importance, schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from reports.figures.drawing import PAGE, Drawing, Figure, Theme, drawing_style, for_page, legend_below, log_ticks
from reports.page.search.record import LISTS, Importance, SearchRecord
from reports.records.formatting import short, value_words

BEST, DEFAULT = "#0f86b5", "#c76b00"
"""Seen on light and on dark ground."""


def draw_search_figures(record: SearchRecord, found: Importance | None) -> list[Figure]:
    """All figures that the data allow, as SVG for the page."""
    with drawing_style(PAGE):
        return [for_page(drawing) for drawing in _drawings(record, found, PAGE)]


def _drawings(record: SearchRecord, found: Importance | None, theme: Theme) -> Iterator[Drawing]:
    drawn = [
        best_so_far(record, theme),
        curves(record, theme),
        parallel_coordinates(record, theme),
        importance_bars(found, theme),
        schedule(record, theme),
    ]
    yield from (drawing for drawing in drawn if drawing is not None)


def best_so_far(record: SearchRecord, theme: Theme) -> Drawing | None:
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    done = record.done
    if not done:
        return None
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    numbers, values = [each["number"] for each in done], [each["objective"] for each in done]
    best = [max(values[: place + 1]) for place in range(len(values))]
    axes.step([*numbers, record.attempts[-1]["number"]], [*best, best[-1]], where="post", color=BEST, linewidth=2)
    axes.plot(numbers, values, "o", color=theme.muted, markersize=4)
    handles = [
        Line2D([], [], color=BEST, linewidth=2, label="best so far"),
        Line2D([], [], marker="o", linestyle="", color=theme.muted, label="trained in full"),
    ]
    if record.default and record.default["objective"] is not None:
        axes.axhline(record.default["objective"], color=DEFAULT, linewidth=1.2, linestyle="--")
        handles.append(Line2D([], [], color=DEFAULT, linestyle="--", label="default"))
    axes.set_xlabel("Configuration")
    axes.set_ylabel("Validation Dice, mean over folds")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    legend_below(axes, handles)
    alt = f"Best validation Dice by configuration: from {best[0]:.3f} to {best[-1]:.3f} in {len(record.attempts)}."
    return Drawing("best", "Best so far", alt, figure)


def curves(record: SearchRecord, theme: Theme) -> Drawing | None:
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    attempts = [each for each in record.attempts if any(row[1] is not None for row in each["history"])]
    if not attempts:
        return None
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    best = record.best["number"] if record.best else None
    for each in attempts:
        history = [row for row in each["history"] if row[1] is not None]
        color, width, above = theme.muted, 0.8, 2
        if each["number"] == best:
            color, width, above = BEST, 2.2, 4
        elif each["number"] == 0:
            color, width, above = DEFAULT, 1.8, 3
        axes.plot(*zip(*history, strict=True), color=color, linewidth=width, zorder=above)
        if each["state"] != "done":
            axes.plot(*history[-1], marker="x", color=color, markersize=5, zorder=above)
    folds = record.content["overall"]["folds"]
    if record.content["scheduler"] != "pbt":
        for place in range(1, len(folds)):
            axes.axvline(place * record.content["epochs"] + 0.5, color=theme.line, linewidth=1.2)
    axes.set_xlabel(f"Epochs over {len(folds)} folds")
    axes.set_ylabel("Validation Dice, mean so far")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    handles = [
        Line2D([], [], color=DEFAULT, linewidth=1.8, label="default"),
        Line2D([], [], color=theme.muted, linewidth=0.8, label="others"),
        Line2D([], [], color=theme.muted, marker="x", linestyle="", label="stopped early"),
    ]
    if best is not None and best != 0:
        handles.insert(0, Line2D([], [], color=BEST, linewidth=2.2, label="best"))
    legend_below(axes, handles)
    stopped = sum(each["state"] == "stopped" for each in attempts)
    alt = f"Running mean of the validation Dice of {len(attempts)} configurations, {stopped} of them stopped early."
    return Drawing("search-curves", "Curves of all configurations", alt, figure)


def parallel_coordinates(record: SearchRecord, theme: Theme) -> Drawing | None:
    from matplotlib import colormaps
    from matplotlib import pyplot as plt

    space, done = record.space, record.done
    if len(done) < 2 or not space:
        return None
    figure, axes = plt.subplots(figsize=(max(4.6, 1.7 * (len(space) + 1)), 3.4))
    scales = [_Scale.of(each, [attempt["values"][each["key"]] for attempt in record.attempts]) for each in space]
    low, high = min(each["objective"] for each in done), max(each["objective"] for each in done)
    shades = colormaps["viridis"]
    places = list(range(len(space) + 1))
    for attempt in sorted(record.attempts, key=lambda each: each["objective"] or -math.inf):
        heights = [scale(attempt["values"][each["key"]]) for scale, each in zip(scales, space, strict=True)]
        if attempt["objective"] is None:
            axes.plot(places[:-1], heights, color=theme.muted, linewidth=0.7, linestyle=":", zorder=1)
            continue
        share = (attempt["objective"] - low) / (high - low) if high > low else 1.0
        color: Any = DEFAULT if attempt["number"] == 0 else shades(0.25 + 0.55 * share)
        width = 2.4 if record.best and attempt["number"] == record.best["number"] else 1.3
        axes.plot(places, [*heights, share], color=color, linewidth=width, zorder=2 + share)
    for place, scale in enumerate(scales):
        _mark(axes, place, scale.ticks, theme)
    _mark(
        axes, places[-1], [(0.0, f"{low:.3f}"), (1.0, f"{high:.3f}")] if high > low else [(1.0, f"{high:.3f}")], theme
    )
    axes.set_xticks(
        places, [*(short(each["key"]).replace(" ", "\n") for each in space), "validation\nDice"], color=theme.ink
    )
    axes.set_xlim(-0.2, len(space) + 0.45)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(False)
    best = f" Best: {record.best['objective']:.3f}." if record.best else ""
    alt = f"Parallel coordinates of {len(record.attempts)} configurations; the last axis is the validation Dice.{best}"
    return Drawing("parallel", "Parallel coordinates; orange: default, dotted: stopped", alt, figure)


class _Scale:
    """Where a parameter's values stand on its axis, 0 to 1, and which are named beside it."""

    def __init__(self, ticks: list[tuple[float, str]], height: Any) -> None:
        self.ticks, self.height = ticks, height

    def __call__(self, value: Any) -> float:
        return float(self.height(value))

    @classmethod
    def of(cls, parameter: dict[str, Any], values: list[Any]) -> _Scale:
        if parameter["kind"] in LISTS:
            # The default may have a value that the list lacks.
            names = list(dict.fromkeys(map(value_words, [*parameter["values"], *values])))
            place = {name: index / max(1, len(names) - 1) for index, name in enumerate(names)}
            return cls([(height, name) for name, height in place.items()], lambda value: place[value_words(value)])
        ends = [*parameter["values"], *values]
        low, high = min(ends), max(ends)
        if parameter["kind"] == "log_uniform" and low > 0:
            return cls(
                [(0.0, value_words(low)), (1.0, value_words(high))],
                lambda value: math.log(value / low) / math.log(high / low),
            )
        return cls([(0.0, value_words(low)), (1.0, value_words(high))], lambda value: (value - low) / (high - low))


def _mark(axes: Any, place: int, ticks: list[tuple[float, str]], theme: Theme) -> None:
    axes.plot([place, place], [0, 1], color=theme.muted, linewidth=0.8, zorder=1.5)
    for height, name in ticks:
        axes.annotate(
            name, (place, height), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8, color=theme.ink,
            zorder=9, bbox={"facecolor": theme.paper, "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
        )  # fmt: skip


def importance_bars(found: Importance | None, theme: Theme) -> Drawing | None:
    from matplotlib import pyplot as plt

    if found is None:
        return None
    order = sorted(found.shares, key=found.shares.__getitem__)
    figure, axes = plt.subplots(figsize=(4.6, 0.7 + 0.42 * len(order)))
    axes.barh([short(key) for key in order], [found.shares[key] for key in order], color=BEST, height=0.6)
    for place, key in enumerate(order):
        axes.annotate(
            f"{found.shares[key]:.2f}", (found.shares[key], place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=9, color=theme.muted,
        )  # fmt: skip
    axes.set_xlim(0, max(1.0, *found.shares.values()))
    axes.tick_params(axis="y", labelcolor=theme.ink)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Variance of the Dice explained alone (adjusted R²)")
    listed = "; ".join(f"{short(key)} {found.shares[key]:.2f}" for key in reversed(order))
    return Drawing(
        "importance", "Importance of parameters", f"Variance of the validation Dice explained: {listed}.", figure
    )


def schedule(record: SearchRecord, theme: Theme) -> Drawing | None:
    """The learning rate (or the first number) of the best member of a population, epoch by epoch, beside all others'."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    members = [each for each in record.attempts if each["schedule"]]
    numbers = [each["key"] for each in record.space if each["kind"] not in LISTS]
    if not members or not numbers or record.best is None:
        return None
    key = next((name for name in numbers if name.endswith("learning_rate")), numbers[0])
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    for member in members:
        chosen = member["number"] == record.best["number"]
        epochs = [epoch for part in member["schedule"] for epoch in (part["from_epoch"] - 1, part["to_epoch"])]
        values = [part["values"][key] for part in member["schedule"] for _ in range(2)]
        axes.plot(
            epochs,
            values,
            color=BEST if chosen else theme.muted,
            linewidth=2.2 if chosen else 0.8,
            zorder=3 if chosen else 2,
        )
    if next(each for each in record.space if each["key"] == key)["kind"] == "log_uniform":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_ylim())))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.set_xlabel("Epoch")
    axes.set_ylabel(short(key).capitalize())
    alt = f"{short(key)} over the epochs, of the best member and, in grey, of the ancestry of all others."
    return Drawing("schedule", f"Schedules found: {short(key)}", alt, figure)
