"""The report's figures as functions of results. Each gives matplotlib axes, to change, to show or to save.

They take `Results` and not a DataFrame: which trials are missing decides what may be drawn, and no table of images knows it.
`results.select(...)` draws a part.

>>> axes = heat_map(load_results(store))
>>> axes.figure.savefig(folder / "heat_map.pdf", bbox_inches="tight")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from harness.api.results import Results
from harness.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from reports.figures.drawing import Drawing, Style

COSTS = ("parameters", "gmacs", "latency", "throughput")


def dice_against_cost(results: Results, cost: str = "parameters") -> Axes:
    """Dice with its interval against one kind of cost (see `COSTS`), and the Pareto front of the automatic methods of each start."""
    from reports.figures.cost_plots import dice_against_cost as draw

    if cost not in COSTS:
        raise UserError(f"cost={cost!r} is unknown.{did_you_mean(cost, COSTS)}")
    return _one(
        results,
        lambda style: [draw(results.board, style, cost, unseen=results.records.unseen)],
        f"no complete method has a measured cost ({cost})",
    )


def latency_by_size(results: Results) -> Axes:
    """The time of one image against its side, on the first machine that speeds were measured on."""
    from reports.figures.cost_plots import latency_by_size as draw

    return _one(results, lambda style: [draw(results.board, style)], "no speed was measured at several sizes")


def seen_and_unseen(results: Results) -> Axes:
    """A line for each method from its Dice on seen domains to that on unseen ones."""
    from reports.figures.method_plots import seen_and_unseen as draw

    return _one(
        results,
        lambda style: [draw(results.board, style)],
        "no complete method was tested on seen and on unseen domains",
    )


def rank_map(results: Results) -> Axes:
    """How often each automatic method takes each rank when the images are drawn again."""
    from reports.figures.method_plots import rank_map as draw

    return _one(
        results,
        lambda style: [draw(results.board, style)],
        "it needs two complete automatic methods, and domains of several images",
    )


def critical_differences(results: Results) -> Axes:
    """Average ranks over domains; a bar joins methods that the domains can't tell apart."""
    from reports.figures.method_plots import critical_difference_diagram as draw

    return _one(
        results, lambda style: [draw(results.board, style)], "it needs three complete automatic methods and two domains"
    )


def learning_curves(results: Results) -> Axes:
    """Validation Dice by epoch: the mean over folds and seeds, with the range between them."""
    from reports.figures.method_plots import learning_curves as draw

    return _one(
        results,
        lambda style: [draw(results.board, results.records.curves, style)],
        "no method was trained for two epochs",
    )


def heat_map(results: Results) -> Axes:
    """Dice of the complete methods on each domain."""
    from reports.figures.domain_plots import heat_map as draw

    return _one(
        results, lambda style: [draw(results.board, style, unseen=results.records.unseen)], "no method is complete"
    )


def distributions(results: Results) -> dict[str, Axes]:
    """Domain -> the spread of the Dice over its images: quartiles, whiskers at 5 and 95 %. All are panels of one figure.

    >>> sorted(distributions(load_results(store)))[0]
    'dermoscopy/atlas'
    """
    from reports.figures.domain_plots import distributions as draw

    (drawing,) = _draw(
        results, lambda style: [draw(results.board, style, unseen=results.records.unseen)], "no method is complete"
    )
    return {str(axes.get_label()): axes for axes in drawing.figure.axes if axes.get_visible()}


def pictures(results: Results, rows: pd.DataFrame) -> list[Axes]:
    """Images with the outlines of the reference mask and of a method's mask: a panel for each row, all of one figure.

    >>> results = load_results(store)
    >>> worst = results.images.query("role == 'test' and method == 'unet'").nsmallest(4, "dice")
    >>> len(pictures(results, worst))
    4

    Args:
        results: of the run.
        rows: at most 64 rows of `results.images`, with all their columns.

    Raises:
        UserError: rows of something else, or an image or mask that is no longer there.
    """
    from reports.figures.drawing import PRINT, themed
    from reports.figures.pictures import pictures as draw

    with themed(PRINT):
        return draw(results.records, rows)


def _one(results: Results, draw: Callable[[Style], Iterable[Drawing | None]], otherwise: str) -> Axes:
    (drawing,) = _draw(results, draw, otherwise)
    return drawing.figure.axes[0]


def _draw(results: Results, draw: Callable[[Style], Iterable[Drawing | None]], otherwise: str) -> list[Drawing]:
    """Draws on paper, in whatever backend is in use: the figures stay open.

    Raises:
        UserError: the data don't allow it; says why.
    """
    import matplotlib

    from reports.figures.drawing import PRINT, Style, themed

    paper: Any = {"figure.facecolor": PRINT.paper, "savefig.facecolor": PRINT.paper}
    with themed(PRINT), matplotlib.rc_context(paper):
        drawings = [drawing for drawing in draw(Style.of(results.board, PRINT)) if drawing is not None]
    if not drawings:
        raise UserError(f"Nothing to draw of {results.name} {results.time}: {otherwise}.")
    for drawing in drawings:
        if len(drawing.figure.axes) == 1:
            drawing.figure.axes[0].set_title(drawing.title)
    return drawings
