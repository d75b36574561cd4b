"""The ranking and the costs in the terminal, by rich."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import pandas as pd

from reports.analysis.costs import drift_words
from reports.records.frames import rows as table_rows
from reports.tables.cells import Column, shown_in
from reports.tables.leaderboard import TRACKS, Leaderboard

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# Columns of the terminal.
_WIDE_FROM = 112


def print_leaderboard(board: Leaderboard, columns: list[Column], title: str, console: Console | None = None) -> None:
    """Prints one table for each track, what is incomplete and why, and the findings."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console(markup=False, emoji=False, highlight=False)
    wide = console.width >= _WIDE_FROM
    shown = shown_in("wide terminal" if wide else "terminal", columns)
    console.print(Text(board.headline, style="dim"))
    for caution in board.cautions:
        console.print(Text(caution, style="bold yellow"))
    for track, heading in TRACKS.items():
        rows = board.table[board.table["track"] == track]
        if rows.empty or track == "incomplete":
            continue
        name = title if track == "automatic" else f"{title}. {heading}"
        # On a narrow one a second interval would leave names no room.
        console.print(_table(name, shown, rows, ("dice", "gap", "worst") if wide else ("dice",)))
    for row in table_rows(board.table[board.table["track"] == "incomplete"]):
        counts = f"{row.trials_done} of {row.trials_expected} trials done"
        text = f"{row.title}: no mean and no rank, {counts} ({'; '.join(row.missing)})."
        console.print(Text(text, style="yellow"))
    for note in board.notes:
        console.print(Text(note))


def print_costs(board: Leaderboard, columns: list[Column], title: str, console: Console | None = None) -> None:
    """Prints what each method costs, and of which methods the times are no good."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console(markup=False, emoji=False, highlight=False)
    shown = columns if console.width >= _WIDE_FROM else shown_in("terminal", columns)
    console.print(_table(title, shown, board.costs))
    for _, row in board.costs.iterrows():
        if words := drift_words(row):
            console.print(Text(f"{row['title']}: {words}"))


def _table(name: str, columns: list[Column], rows: pd.DataFrame, detailed: Sequence[str] = ()) -> Table:
    """`detailed`: keys of the columns whose second line is shown."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(name, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    cells = [[_stacked(column, row, column.key in detailed) for column in columns] for _, row in rows.iterrows()]
    for place, column in enumerate(columns):
        lines = [line for row in cells for line in row[place].plain.splitlines()]
        # Only names may be cut when the terminal is narrow, never numbers.
        width = max(map(len, [column.title, *lines])) if column.numeric else None
        justify: Literal["right", "left"] = "right" if column.numeric else "left"
        table.add_column(Text(column.title), justify=justify, no_wrap=column.numeric, min_width=width)
    for line in cells:
        table.add_row(*line)
    return table


def _stacked(column: Column, row: pd.Series, detailed: bool) -> Text:
    from rich.text import Text

    cell = column.cell(row)
    # The seeds' spread is for wider media.
    detail = cell.detail.partition(" ±")[0] if detailed else ""
    return Text.assemble(cell.main, (f"\n{detail}" if detail else "", "dim"))
