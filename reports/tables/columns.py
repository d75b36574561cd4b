"""Every column of the tables of methods, and what it means: the page, Markdown, the terminal and LaTeX go over this list."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd

from harness.errors import UserError
from harness.metrics import REGISTRY, Metric, shown_metrics
from reports.records.formatting import SELECTION_WORDS, fixed, significant, words_of, written
from reports.tables.cells import (
    EVERYWHERE,
    Cell,
    Column,
    dice_cell,
    empties_cell,
    method_and_track_cell,
    method_cell,
    modality_knowledge_cell,
    number_words,
    parameters_cell,
    rank_cell,
    size_words,
    sort_key,
    status_cell,
    with_interval_words,
)
from reports.tables.start_columns import start_columns, surely_unseen_columns

METHOD = Column("title", "Method", "", method_and_track_cell, numeric=False)
"""The first column of tables beside the ranking."""
CORRUPTION_LOSS = Column(
    "corruption_loss", "Loss under corruption, %",
    "How much of its macro Dice a method loses when the test images are corrupted: (clean − corrupted) / clean of the same"
    " images, for each corruption and severity, then averaged over these (after Hendrycks and Dietterich, ICLR 2019). Where"
    " the clean Dice is 0 there is nothing to lose: such a corruption is left out. Read it beside the Dice: a method that"
    " does not look at the image, such as the mean mask, loses nothing.",
    number_words("corruption_loss", lambda value: fixed(value, 1)), better="lower",
    shown_in=frozenset({"ranking", "wide terminal", "latex"}), digits=1, overall=True,
)  # fmt: skip
_EXTRA: list[Column] = []


def register_column(column: Column) -> None:
    """Adds a column of one's own.

    Raises:
        UserError: there is one of that key.
    """
    if any(column.key == other.key for other in columns([], unseen=True, corrupted=True)):
        raise UserError(f"there is a column '{column.key}' already: choose another key.")
    _EXTRA.append(column)


def extra_columns() -> list[Column]:
    """Those that were registered from outside."""
    return list(_EXTRA)


def number_column(
    key: str, title: str, definition: str, value: Callable[[pd.Series], float | None], *, digits: int = 3,
    better: str = "", shown_in: Iterable[str] = ("ranking",),
) -> Column:  # fmt: skip
    """A column of plain numbers, made from the row of each method."""
    cell = number_words(key, lambda number: fixed(number, digits))
    return Column(key, title, definition, cell, better, shown_in=frozenset(shown_in), digits=digits, value=value)


def columns(
    hardware: list[str],
    *,
    unseen: bool,
    seen_where_tested: bool = True,
    nsd_tolerance: float | None = None,
    corrupted: bool = False,
    mixed_starts: bool = True,
    possibly_seen: bool = True,
) -> list[Column]:
    """All columns of a run's methods; one for throughput for each machine in `hardware`.

    Args:
        corrupted: corrupted images were tested as well.
        seen_where_tested: seen Dice is of the same domains as unseen Dice, see `Records.seen_domains`.
        nsd_tolerance: in pixels; None where trials differ.
        mixed_starts, possibly_seen: whether rows start unequally, and whether a pretraining may contain a test domain.
    """
    ranking = _ranking_columns(hardware, unseen=unseen, seen_where_tested=seen_where_tested, corrupted=corrupted)
    place = [column.key for column in ranking].index("dice")
    ranking[place + 1 : place + 1] = surely_unseen_columns(possibly_seen)
    ranking[place:place] = start_columns(mixed_starts)
    places = {"nsd": frozenset({"metrics", "domains", "latex"})}
    # HD95 stands in the ranking.
    further = [
        _metric_column(REGISTRY[name], places.get(name, frozenset({"metrics"})), nsd_tolerance)
        for name in shown_metrics()
        if name not in ("dice", "hd95")
    ]
    return [*ranking, *further, *_EXTRA]


def _metric_column(metric: Metric, shown_in: frozenset[str], nsd_tolerance: float | None) -> Column:
    """The mean of a metric, in pixels of the native masks where it is a distance."""
    tolerance = f" ({nsd_tolerance:g} px)" if metric.name == "nsd" and nsd_tolerance is not None else ""
    return Column(
        metric.name,
        f"{metric.title}{tolerance}",
        f"{metric.definition} P is the prediction, G the truth. Averaged as the Dice is.",
        with_interval_words(metric.name, metric.digits),
        "higher" if metric.higher_is_better else "lower",
        shown_in=shown_in,
        digits=metric.digits,
        overall=True,
    )


def _ranking_columns(hardware: list[str], *, unseen: bool, seen_where_tested: bool, corrupted: bool) -> list[Column]:
    return [
        *_rank_columns(),
        *_dice_columns(unseen),
        *_gap_columns(seen_where_tested),
        *([CORRUPTION_LOSS] if corrupted else []),
        *_count_columns(),
        *[_throughput_column(index, machine, len(hardware)) for index, machine in enumerate(hardware)],
        *_method_columns(),
    ]


def _rank_columns() -> list[Column]:
    return [
        Column(
            "rank",
            "Rank",
            "Place by macro Dice within the group. “1–3” means that the images can't settle it: a method is placed behind another"
            " only where the 95 % interval of their difference (paired by image, not corrected for the number of comparisons)"
            " excludes 0. Below it, how often the method is first when the images are drawn again. Incomplete methods have no"
            " rank.",
            rank_cell,
            shown_in=EVERYWHERE,
        ),
        Column(
            "title",
            "Method",
            "Name on the method's card; under it the name in the configuration. A trivial baseline is one that every"
            " network should beat.",
            method_cell,
            numeric=False,
            shown_in=EVERYWHERE,
        ),
    ]


def _dice_columns(unseen: bool) -> list[Column]:
    kind = "Unseen Dice" if unseen else "Test Dice"
    where = (
        "of domains that the model never saw in training, selection or normalisation"
        if unseen
        else "kept for testing; their domains were seen in training (protocol in_domain)"
    )
    return [
        Column(
            "dice",
            kind,
            f"Macro Dice (0 to 1) over images {where}: mean over images within a domain, then over domains. An image tested in"
            " several folds or seeds counts once, by its mean. In brackets the 95 % interval. ± is the standard deviation over"
            " seeds, where there is more than one.",
            dice_cell,
            better="higher",
            shown_in=EVERYWHERE | {"latex"},
        ),
        Column(
            "hd95",
            "HD95",
            "Macro 95th percentile Hausdorff distance in px at the mask's native resolution (both directions pooled,"
            " as in MedPy), averaged as the Dice is.",
            with_interval_words("hd95", 1),
            better="lower",
            shown_in=EVERYWHERE | {"latex", "domains"},
            digits=1,
            overall=True,
        ),
        Column(
            "worst",
            "Worst domain",
            "The lowest Dice of a single test domain, and which one. What a hospital may meet.",
            lambda row: Cell(
                fixed(row["worst_dice"], 3), words_of(row["worst_domain"], ""), sort_key(row["worst_dice"])
            ),
            better="higher",
            shown_in=frozenset({"ranking", "wide terminal", "latex"}),
            number="worst_dice",
            overall=True,
        ),
        Column(
            "quartile",
            "Lower quartile",
            "A quarter of a domain's images have a Dice below this: the 25 % quantile within each domain, averaged over domains.",
            lambda row: Cell(fixed(row["quartile"], 3), sort=sort_key(row["quartile"])),
            better="higher",
            overall=True,
        ),
    ]


def _gap_columns(seen_where_tested: bool) -> list[Column]:
    seen_where = (
        "of the tested domains, from folds that trained on them"
        if seen_where_tested
        else "of all domains that were seen in training: not every tested domain was seen in another fold, so seen and unseen"
        " Dice are of different domains here"
    )
    return [
        Column(
            "seen",
            "Seen Dice",
            f"Macro Dice over the validation images {seen_where}. The chosen epoch was picked on these images under the rule"
            " training_domain_validation, so it flatters a little.",
            with_interval_words("seen", 3),
            better="higher",
            shown_in=EVERYWHERE | {"latex"},
            overall=True,
        ),
        Column(
            "gap",
            "Gap",
            "Seen minus unseen Dice: what is lost on the way to a new domain."
            + ("" if seen_where_tested else " The two are of different domains here, see Seen Dice.")
            + " Its interval draws images that play both roles jointly.",
            with_interval_words("gap", 3, sign=True),
            better="lower",
            shown_in=EVERYWHERE | {"latex"},
            overall=True,
        ),
        Column(
            "missed",
            "Failures",
            "Test predictions that are empty although there is an object (missed), not empty but without a common pixel"
            " (elsewhere), and with an object where there is none (false alarm); both empty counts as Dice 1. Counted in every"
            " fold and seed.",
            empties_cell,
            better="lower",
            overall=True,
        ),
    ]


def _count_columns() -> list[Column]:
    return [
        Column(
            "parameters_total",
            "Parameters",
            "All parameters of the model; under it those that one image passes through, where that is fewer.",
            parameters_cell,
            better="lower",
            shown_in=frozenset({"ranking", "wide terminal"}),
        ),
        Column(
            "gmacs",
            "GMACs",
            "Billions of multiply-accumulate operations for one image at the stated input size (FLOPs are twice that), attention"
            " included.",
            lambda row: Cell(
                written(row["gmacs"], significant),
                size_words(row) if pd.notna(row["gmacs"]) else "",
                sort_key(row["gmacs"]),
            ),
            better="lower",
            shown_in=frozenset({"ranking", "wide terminal"}),
        ),
    ]


def _throughput_column(index: int, machine: str, machines: int) -> Column:
    return Column(
        f"throughput_{index}",
        "Images/s" if machines == 1 else f"Images/s ({chr(65 + index)})",
        f"Throughput at the best batch size, measured apart from training with all cores idle, on {machine}."
        " Machines have columns of their own: speeds are never compared across them.",
        number_words(f"throughput_{index}", significant),
        better="higher",
    )


def _method_columns() -> list[Column]:
    return [
        Column(
            "prompt",
            "Prompt",
            "What the method is given beside the image. Oracle prompts are derived from the truth: such rows are ranked apart.",
            lambda row: Cell(row["prompt"], sort=row["prompt"]),
            numeric=False,
        ),
        Column(
            "modality_knowledge",
            "Modality",
            "What the method knows of the image's modality: none, given (the true one), or inferred from the image, with how often"
            " that was right on the test images.",
            modality_knowledge_cell,
            numeric=False,
        ),
        Column(
            "selection",
            "Selection",
            "How the tested weights were chosen: by the validation images of the training domains, the last epoch, or (oracle, ranked"
            " apart) by the test images.",
            lambda row: Cell(SELECTION_WORDS.get(row["selection"], row["selection"]), sort=row["selection"]),
            numeric=False,
        ),
        Column(
            "geometry",
            "Geometry",
            "How images become the squares that the method gets: stretched to them, letterboxed (the longer side fits, the rest"
            " is black), or cut into overlapping tiles at their native resolution.",
            lambda row: Cell(row["geometry"], sort=row["geometry"]),
            numeric=False,
        ),
        Column(
            "status",
            "Status",
            "Finished of expected trials (folds × seeds). A method with a failed or missing trial has no mean and no rank."
            " “Possibly seen”: its pretraining data may contain a test domain, which no check of ours can rule out."
            " “Sees test images”: it adapts itself to a domain's unlabelled test images.",
            status_cell,
            numeric=False,
        ),
    ]


def informative_columns(columns: list[Column], table: pd.DataFrame) -> list[Column]:
    """Without the columns on how methods were chosen and prompted in which all rows say the same, or nothing: a page has
    little room."""
    plain = ("prompt", "modality_knowledge", "selection", "geometry")
    return [column for column in columns if column.key not in plain or len({*table[column.key]} - {""}) > 1]
