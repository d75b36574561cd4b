"""Ranking, per-domain table and costs as CSV and Parquet (all columns, full precision) and Markdown (as shown)."""

from __future__ import annotations

import csv
from io import StringIO

import pandas as pd

from reports.analysis.costs import NESTED
from reports.analysis.fairness import equal_terms
from reports.analysis.terms import chosen_title, search_words, searched_keys
from reports.records.formatting import MISSING, interval, number
from reports.records.frames import rows
from reports.records.records import Records
from reports.tables.cells import Column, shown_in
from reports.tables.columns import METHOD
from reports.tables.leaderboard import TRACKS, Leaderboard


def ranking_csv(board: Leaderboard) -> str:
    """One row per method. Lists are joined by "; "; throughput columns carry their machine in the name."""
    table = _with_machines(board)
    lists = ["pretrained_on", "possibly_seen", "missing", "unmeasured"]
    return _csv(table.assign(**{name: table[name].map("; ".join) for name in lists}))


def parquet_files(board: Leaderboard) -> dict[str, bytes]:
    """File name -> content: the ranking, the domains, and the Dice of every image of every method."""
    ranking = _with_machines(board)
    # What is a number has one type in all rows: a column of None and floats would be neither.
    numbers = [
        str(name) for name in ranking if ranking[name].map(lambda v: v is None or isinstance(v, (int, float))).all()
    ]
    ranking = ranking.assign(**{name: pd.to_numeric(ranking[name]) for name in numbers})
    images = board.images.rename(columns={"domain_key": "domain"})
    tables = {"leaderboard": ranking, "domains": board.domains, "images": images}
    return {f"{name}.parquet": table.to_parquet(index=False) for name, table in tables.items()}


def _with_machines(board: Leaderboard) -> pd.DataFrame:
    names = {f"throughput_{i}": f"throughput_images_per_second [{machine}]" for i, machine in enumerate(board.hardware)}
    return board.table.rename(columns=names)


def domains_csv(board: Leaderboard) -> str:
    """One row per method and test domain."""
    return _csv(board.domains)


def costs_csv(board: Leaderboard) -> str:
    """One row per method and machine; nothing but the method's name where nothing was measured."""
    return _csv(board.costs.drop(columns=list(NESTED)))


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n"))


def markdown(
    records: Records,
    board: Leaderboard,
    columns: list[Column],
    costs: list[Column],
    title: str,
) -> str:
    """The ranking, one table for each track, then further metrics, the Dice of every domain, costs and what is missing."""
    text = StringIO()
    text.write(f"# {_escape(title)}\n\n{_escape(board.headline)}\n")
    for caution in board.cautions:
        text.write(f"\n> **{_escape(caution)}**\n")
    for note in board.notes:
        text.write(f"\n{_escape(note)}\n")
    for track, heading in TRACKS.items():
        members = board.table[board.table["track"] == track]
        if members.empty:
            continue
        text.write(f"\n## {heading}\n\n")
        _columns(text, shown_in("ranking", columns), members)
    text.write("\n## More metrics\n\n")
    _columns(text, [METHOD, *shown_in("metrics", columns)], board.table)
    text.write("\n## Dice by domain\n\n")
    domains = list(dict.fromkeys(board.domains["domain"]))
    places = {(row.method, row.domain): row for row in rows(board.domains)}
    body = []
    for _, row in board.table.iterrows():
        cells_of_row = [str(row["label"])]
        for domain in domains:
            cell = places[row["method"], domain]
            dice = number(cell.dice) if pd.notna(cell.dice) else str(cell.state)
            words = [dice, interval(cell.dice_low, cell.dice_high), "possibly seen" if cell.possibly_seen else ""]
            cells_of_row.append(" ".join(filter(None, words)))
        body.append(cells_of_row)
    _table(text, ["Method", *domains], body, [False] + [True] * len(domains))
    searched = bool(searched_keys(board.terms))
    text.write(f"\n## Equal terms\n\n{equal_terms(board.differences, searched=searched)}\n")
    for each in board.differences:
        text.write(f"\n- {_escape(each.title)}: {_escape('; '.join(each.what))}\n")
    text.write(f"\n{_escape(search_words(board.terms))}\n\n")
    header = ["Method", "Images seen in training", "Configurations tried", chosen_title(board.terms)]
    body = [[each.title, each.images, each.tried, "; ".join(each.chosen)] for each in board.terms]
    _table(text, header, body, [False] * len(header))
    text.write("\n## Costs\n\n")
    _columns(text, costs, board.costs)
    holes = [trial for trial in records.trials if trial.state != "done"]
    if holes:
        text.write("\n## Failed and missing trials\n\n")
        body = [
            [records.methods[t.method].title, t.method, t.fold, str(t.seed), t.state, t.reason, t.error] for t in holes
        ]
        header = ["Method", "Name", "Fold", "Seed", "State", "Cause", "Traceback"]
        _table(text, header, body, [name == "Seed" for name in header])
    return text.getvalue()


def _columns(text: StringIO, columns: list[Column], table: pd.DataFrame) -> None:
    cells = [[column.cell(row).text() for column in columns] for _, row in table.iterrows()]
    _table(text, [column.title for column in columns], cells, [column.numeric for column in columns])


def _table(text: StringIO, header: list[str], body: list[list[str]], numeric: list[bool]) -> None:
    text.write("| " + " | ".join(map(_escape, header)) + " |\n")
    text.write("|" + "|".join("---:" if right else "---" for right in numeric) + "|\n")
    for row in body:
        text.write("| " + " | ".join(_escape(cell or MISSING) for cell in row) + " |\n")


def _escape(text: str) -> str:
    """Names come from data and config: they must not become markup or break a row."""
    for character in ("\\", "|", "`", "*", "_", "[", "]", "#"):
        text = text.replace(character, "\\" + character)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())
