"""What all static figures share: colours, names, ticks, legends, and the way into the page or a file."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from harness.methods.card import NOT_STATED
from reports.analysis.starts import are_mixed
from reports.tables.leaderboard import Leaderboard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

_MARKERS = "osD^vPX<>p*h"
SHADE, SHADE_OPACITY = (42 / 255, 157 / 255, 143 / 255), 0.5
"""Colour (RGB, 0 to 1) of a Dice of 1 in the heat map, as of the tables' shading in leaderboard.css."""
_START = {
    "scratch": "scratch",
    "natural images": "natural",
    "medical images": "medical",
    NOT_STATED: "start not stated",
}
WIDE = 620
"""CSS pixels."""
SMALLEST = 11
"""CSS pixels of the smallest letters: where there is less room the figure scrolls sideways in its own box."""
MAX_TICKS = 5
"""On the axis of costs."""


@dataclass(frozen=True)
class Theme:
    """Colours of text, of what is less important, of grids, and of the ground."""

    ink: str
    muted: str
    line: str
    paper: str


# Drawn in these colours and replaced by the page's variables, so that one SVG serves light and dark.
PAGE = Theme("#010203", "#040506", "#070809", "#0a0b0c")
PRINT = Theme("#16191d", "#525b66", "#dfe3e8", "#ffffff")
_VARIABLES = {PAGE.ink: "var(--ink)", PAGE.muted: "var(--muted)", PAGE.line: "var(--line)", PAGE.paper: "var(--paper)"}


@dataclass(frozen=True)
class Figure:
    """`svg` is ready for the page; `alt` says in words what it shows; `width` and `height` are natural, in CSS pixels."""

    name: str
    title: str
    alt: str
    svg: str
    width: int
    height: int = 0

    @property
    def wide(self) -> bool:
        """Too wide for a column beside others."""
        return self.width > WIDE


@dataclass(frozen=True)
class Drawing:
    """A figure before it is written. `alt` says in words what it shows."""

    name: str
    title: str
    alt: str
    figure: MatplotlibFigure


@dataclass(frozen=True)
class Style:
    """How methods look in all figures of a report."""

    theme: Theme
    short: dict[str, str]
    palette: dict[str, str]
    markers: dict[str, str]

    @classmethod
    def of(cls, board: Leaderboard, theme: Theme) -> Style:
        import seaborn as sns

        names = sorted(board.table["method"])
        # Ten colours that stay apart for the colour-blind; beyond that hues all around, which nothing could keep apart.
        colors = sns.color_palette("colorblind" if len(names) <= 10 else "husl", len(names)).as_hex()
        markers = {name: _MARKERS[index % len(_MARKERS)] for index, name in enumerate(names)}
        return cls(theme, short_titles(board), dict(zip(names, colors, strict=True)), markers)


@contextlib.contextmanager
def themed(theme: Theme) -> Iterator[None]:
    """Matplotlib's settings as the report wants them, and afterwards as they were."""
    import matplotlib
    import seaborn as sns

    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": "report", "font.size": 10, "axes.edgecolor": theme.line,
        "axes.labelcolor": theme.ink, "text.color": theme.ink, "xtick.color": theme.muted, "ytick.color": theme.muted,
        "grid.color": theme.line, "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
        "grid.linewidth": 0.6, "text.parse_math": False, "legend.frameon": False, "pdf.fonttype": 42,
    }  # fmt: skip
    with sns.axes_style("whitegrid"), matplotlib.rc_context(style):
        yield


@contextlib.contextmanager
def drawing_style(theme: Theme) -> Iterator[None]:
    """As `themed`, without a window system. Figures that the block opened are closed at its end, and no others."""
    import matplotlib
    from matplotlib import pyplot as plt

    backend, before = matplotlib.get_backend(), set(plt.get_fignums())
    plt.switch_backend("svg")
    try:
        with themed(theme):
            yield
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)
        plt.switch_backend(backend)


def short_titles(board: Leaderboard, length: int = 28) -> dict[str, str]:
    """Titles that fit a figure. Where cutting makes two alike the name stays whole: "A long tit… (name)".

    Where starts differ each has its mark: "U-Net · scratch".
    """
    starts = dict(zip(board.table["method"], board.table["start"], strict=True))
    mixed = are_mixed(starts.values())
    titles = dict(zip(board.table["method"], board.table["title"], strict=True))
    cut = {name: shortened(title, length) for name, title in titles.items()}
    alike = Counter(cut.values())
    whole = {
        name: short
        if alike[short] == 1
        else f"{shortened(titles[name].removesuffix(f' ({name})'), max(8, length - len(name) - 3))} ({name})"
        for name, short in cut.items()
    }
    return {
        name: f"{title} · {_START[starts[name]]}" if mixed and starts[name] in _START else title
        for name, title in whole.items()
    }


def shortened(title: str, length: int = 28) -> str:
    return title if len(title) <= length else title[: length - 1] + "…"


def legend_below(axes: Axes, handles: list[Any], lower: float = -0.2) -> None:
    """Not among the marks, which it would cover, and not beside the axes: a phone has no room there."""
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.45, lower), ncols=2, borderaxespad=0, fontsize=9,
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


def plain_log_ticks(axes: Axes, which: str = "x") -> None:
    """Marks the axis `which`, "x" or "y", which is logarithmic, with few round numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    def plain(value: float, place: int) -> str:
        return f"{value / 1e6:g} M" if value >= 1e6 else f"{value:g}"

    axis, limits = (axes.xaxis, axes.get_xlim()) if which == "x" else (axes.yaxis, axes.get_ylim())
    axis.set_major_locator(FixedLocator(log_ticks(*limits)))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_locator(NullLocator())


def for_page(drawing: Drawing) -> Figure:
    """SVG that lives inside the page: text stays text, and colours follow the page's light or dark theme."""
    from markupsafe import escape
    from matplotlib import pyplot as plt

    text = StringIO()
    metadata: Any = {"Date": None, "Creator": None, "Format": None, "Type": None}
    drawing.figure.savefig(text, format="svg", bbox_inches="tight", metadata=metadata)
    plt.close(drawing.figure)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    # Several figures share a page: ids must not meet, and fonts and sizes are the page's.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{drawing.name}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{drawing.name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: (?:[\w.]+ )*?([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]+;? ?", "", svg)
    opening, _, body = svg.partition(">")
    box = re.search(r'viewBox="[^"]+"', opening)
    width, height = (re.search(rf'{side}="([\d.]+)pt"', opening) for side in ("width", "height"))
    if box is None or width is None or height is None:
        raise RuntimeError(f"matplotlib's SVG starts in an unknown way: {opening}")
    # Its natural size is 4/3 CSS pixels a point; it shrinks as far as its smallest letters allow.
    natural, tall = (round(float(side.group(1)) * 4 / 3) for side in (width, height))
    letters = min((float(size) * 4 / 3 for size in re.findall(r"font-size: ([\d.]+)px", svg)), default=SMALLEST)
    size = f"width: {natural}px; min-width: {math.ceil(natural * min(1, SMALLEST / letters))}px"
    attributes = f'role="img" aria-label="{escape(drawing.alt)}" {box.group()} style="{size}"'
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return Figure(drawing.name, drawing.title, drawing.alt, f"<svg {attributes} {namespaces}>{body}", natural, tall)
