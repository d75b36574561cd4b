"""A cell of a table and the ways in which values are written, once for all outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from reports.records.formatting import MISSING, _minus, counted, interval, significant, words_of, written


@dataclass(frozen=True)
class Cell:
    """What stands in a cell: the value, a second smaller line, and the number it is sorted by (None: always last)."""

    main: str
    detail: str = ""
    sort: float | str | None = None

    def text(self) -> str:
        return f"{self.main} {self.detail}".strip()


EVERYWHERE = frozenset({"ranking", "terminal", "wide terminal"})
"""The places of a column that every table has room for."""


@dataclass(frozen=True)
class Column:
    """A column of a table of methods: adding one is adding one of these to `reports.tables.columns`.

    Attributes:
        better: "higher", "lower" or "" (no order of merit).
        shown_in: where people see it, of `PLACES`. CSV, Parquet and JSON hold every number of `Leaderboard.table`.
        number: the column of `Leaderboard.table` that holds the value, where it isn't `key`.
        digits: decimals, where the number stands alone.
        value: makes the number of the column from a row of `Leaderboard.table` that lacks it.
        overall: over all domains only: hidden while the page ranks by another metric or over fewer domains.
    """

    key: str
    title: str
    definition: str
    cell: Callable[[pd.Series], Cell]
    better: str = ""
    numeric: bool = True
    shown_in: frozenset[str] = frozenset({"ranking"})
    number: str = ""
    digits: int = 3
    value: Callable[[pd.Series], float | None] | None = None
    overall: bool = False

    @property
    def first(self) -> str:
        """The direction of a first click."""
        return "descending" if self.better == "higher" else "ascending"

    @property
    def source(self) -> str:
        return self.number or self.key


PLACES = ("ranking", "metrics", "domains", "terminal", "wide terminal", "latex")
"""The page's and Markdown's first table and their table of further metrics; the table of a method or domain; a terminal of
any width, a wide one; the table for a paper."""


def shown_in(place: str, columns: Iterable[Column]) -> list[Column]:
    """Those of the columns that are shown in one of `PLACES`."""
    return [column for column in columns if place in column.shown_in]


def sort_key(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def number_words(key: str, write: Callable[[float], str]) -> Callable[[pd.Series], Cell]:
    return lambda row: Cell(written(row[key], write), sort=sort_key(row[key]))


def with_interval_words(key: str, digits: int, sign: bool = False) -> Callable[[pd.Series], Cell]:
    def cell(row: pd.Series) -> Cell:
        if pd.isna(row[key]):
            return Cell("not measured") if key in row["unmeasured"] else Cell(MISSING)
        return Cell(
            _minus(row[key], digits, sign), interval(row[f"{key}_low"], row[f"{key}_high"], digits), sort_key(row[key])
        )

    return cell


def method_cell(row: pd.Series) -> Cell:
    words = [row["method"]] if row["method"] != row["title"] else []
    if row.get("trivial_baseline", False):
        words.append("trivial baseline")
    return Cell(row["title"], ", ".join(words), str(row["title"]).casefold())


def method_and_track_cell(row: pd.Series) -> Cell:
    cell = method_cell(row)
    apart = {"oracle": "ranked apart", "incomplete": "incomplete"}.get(row["track"])
    # Where starts differ, the label has the row's in brackets.
    start = str(row["label"]).removeprefix(str(row["title"])).strip(" []") if "label" in row else ""
    return Cell(cell.main, ", ".join(word for word in (cell.detail, start, apart) if word), cell.sort)


def dice_cell(row: pd.Series) -> Cell:
    if row["missing"]:
        return Cell("no mean", "incomplete")
    cell = with_interval_words("dice", 3)(row)
    if pd.isna(row["dice_seed_sd"]):
        return cell
    return Cell(cell.main, f"{cell.detail} ±{row['dice_seed_sd']:.3f} seeds", cell.sort)


def empties_cell(row: pd.Series) -> Cell:
    if pd.isna(row["missed"]):
        return Cell(MISSING)
    counts = {"elsewhere": row["elsewhere"], "false alarm": row["false_alarms"], "both empty": row["both_empty"]}
    return Cell(
        f"{row['missed']:.0f} missed",
        ", ".join(f"{n:.0f} {name}" for name, n in counts.items() if n),
        sort_key(row["missed"]),
    )


def rank_cell(row: pd.Series) -> Cell:
    if pd.isna(row["rank"]):
        return Cell(MISSING)
    first = "" if pd.isna(row["first"]) else f"first {100 * row['first']:.0f} %"
    return Cell(str(row["rank"]), first, float(str(row["rank"]).split("–")[0]))


def modality_knowledge_cell(row: pd.Series) -> Cell:
    right = "" if pd.isna(row["guess_accuracy"]) else f"{100 * row['guess_accuracy']:.1f} % right"
    return Cell(row["modality_knowledge"], right, row["modality_knowledge"])


def parameters_cell(row: pd.Series) -> Cell:
    total, active = row["parameters_total"], row["parameters_active"]
    fewer = pd.notna(total) and pd.notna(active) and active < total
    return Cell(written(total, counted), f"{counted(float(active))} active" if fewer else "", sort_key(total))


def size_words(row: pd.Series, key: str = "cost_image_size") -> str:
    return f"at {row[key]:.0f} px" if pd.notna(row[key]) else ""


def measured_cell(row: pd.Series, key: str, words: str, second: str = "", second_words: str = "") -> Cell:
    """A value in words and, below it, a second one; a dash where it was not measured."""
    if pd.isna(row[key]):
        return Cell(MISSING)
    below = second_words.format(significant(row[second])) if second and pd.notna(row[second]) else ""
    return Cell(words.format(significant(row[key])), below, sort_key(row[key]))


def fastest_cell(row: pd.Series) -> Cell:
    """The latency of the fastest form and, below it, which form that is."""
    found = measured_cell(row, "fastest_ms_p50", "{} ms")
    return found if pd.isna(row["fastest_ms_p50"]) else replace(found, detail=row["fastest_form"])


def machine_cell(row: pd.Series) -> Cell:
    machine = words_of(row["machine"], "not measured")
    # A device's name may have commas of its own.
    device = words_of(row["device"], machine)
    return Cell(device, machine.removeprefix(device).removeprefix(", "), device)


def status_cell(row: pd.Series) -> Cell:
    done = f"{row['trials_done']} of {row['trials_expected']} trials"
    details = list(row["missing"])
    if row["possibly_seen"]:
        # Which ones stands in "By domain" and in the method's own section; here the list made the row a page long.
        domains = "1 domain" if len(row["possibly_seen"]) == 1 else f"{len(row['possibly_seen'])} domains"
        details.append(f"{domains} possibly seen")
    if row["sees_test_images"]:
        details.append("sees test images")
    if row["searched"]:
        details.append("tuned by nested search")
    if row["resized"]:
        details.append(f"{row['resized']} {'mask' if row['resized'] == 1 else 'masks'} resized")
    return Cell("incomplete" if row["missing"] else "complete", "; ".join([done, *details]), float(row["trials_done"]))
