"""The columns on where a row starts, and the mean over domains that nobody's pretraining may contain."""

from __future__ import annotations

import pandas as pd

from harness.methods.card import NO_WEIGHTS, NOT_STATED
from reports.analysis.starts import data_words
from reports.records.formatting import MISSING, interval, number
from reports.tables.cells import Cell, Column, sort_key

_PLACES = frozenset({"ranking", "terminal", "wide terminal", "latex"})


def start_columns(mixed: bool) -> list[Column]:
    """The start and, where starts differ, the rank within equal starts."""
    found = [
        Column(
            "start",
            "Start",
            "What the weights learnt on before the training of this run: from scratch, on natural images, or on medical images;"
            " below it the data, as far as the method's card names them. A method that learns no weights has none.",
            start_cell,
            numeric=False,
            shown_in=_PLACES,
        )
    ]
    if mixed:
        found.append(
            Column(
                "rank_in_start",
                "Rank in start",
                "Place by macro Dice among the rows of the same start, read as the rank. A rank over unequal starts mixes what the"
                " method does with what its pretraining had seen.",
                lambda row: Cell(_words(row["rank_in_start"]), sort=_first(row["rank_in_start"])),
                shown_in=_PLACES - {"terminal"},
                overall=True,
            )
        )
    return found


def surely_unseen_columns(possibly_seen: bool) -> list[Column]:
    """The Dice on domains that no row lists in its pretraining; nothing where none lists a test domain."""
    if not possibly_seen:
        return []
    return [
        Column(
            "surely_unseen",
            "Unlisted Dice",
            "Macro Dice over the test domains that no row here lists in its pretraining, the same domains for all rows; their"
            " number stands below. That is no proof that no weights have met them. A row whose start is not stated has none.",
            surely_unseen_cell,
            better="higher",
            shown_in=frozenset({"ranking", "wide terminal", "latex"}),
            overall=True,
        )
    ]


def start_cell(row: pd.Series) -> Cell:
    start = str(row["start"])
    if start == NO_WEIGHTS:
        return Cell(MISSING, sort="~")
    return Cell(start, data_words(row["pretrained_on"]) if start != NOT_STATED else "", start)


def surely_unseen_cell(row: pd.Series) -> Cell:
    count = int(row["surely_unseen_domains"])
    domains = f"{count} {'domain' if count == 1 else 'domains'}"
    if pd.isna(row["surely_unseen"]):
        return Cell(MISSING, "no such domain" if not count else "")
    ends = interval(row["surely_unseen_low"], row["surely_unseen_high"])
    return Cell(number(row["surely_unseen"]), f"{ends} {domains}".strip(), sort_key(row["surely_unseen"]))


def _words(rank: object) -> str:
    return MISSING if rank is None or pd.isna(rank) else str(rank)  # type: ignore[call-overload]


def _first(rank: object) -> float | None:
    return None if _words(rank) == MISSING else float(str(rank).split("–")[0])
