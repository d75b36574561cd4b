"""The ranking as a LaTeX table for a paper: booktabs, best in bold, intervals below the values."""

from __future__ import annotations

from io import StringIO

import pandas as pd

from harness.methods.card import NO_WEIGHTS
from reports.analysis.starts import are_mixed
from reports.records.formatting import interval, number
from reports.tables.cells import Column, shown_in
from reports.tables.leaderboard import TRACKS, Leaderboard

_STARTS_DIFFER = " Starts differ (column Start): bold is the best of each start, and ranks over unequal starts include the pretraining."
_UP, _DOWN = r"$\uparrow$", r"$\downarrow$"
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "–": "--", "—": "---", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "\n": " ", "\r": " ",
}  # fmt: skip


def latex(board: Leaderboard, columns: list[Column], title: str) -> str:
    """A `table` environment that needs the package booktabs. Bold marks the best of the automatic, complete methods.

    Where starts differ each start has its own best, and the caption says so.
    """
    text, shown = StringIO(), shown_in("latex", columns)
    mixed = are_mixed(board.table["start"])
    text.write("% Needs \\usepackage{booktabs} and, for other than Latin letters, XeLaTeX or LuaLaTeX.\n")
    text.write("\\begin{table}\n\\centering\n")
    caption = f"{escape(title)}. {escape(board.headline)}. 95\\,\\% bootstrap intervals in brackets."
    text.write(f"\\caption{{{caption}{_STARTS_DIFFER if mixed else ''}}}\n")
    text.write(f"\\begin{{tabular}}{{ll{''.join('r' if c.numeric else 'l' for c in shown)}}}\n\\toprule\n")
    arrows = {"higher": f" {_UP}", "lower": f" {_DOWN}", "": ""}
    text.write(" & ".join(["Rank", "Method", *[f"{escape(c.title)}{arrows[c.better]}" for c in shown]]))
    text.write(" \\\\\n\\midrule\n")
    best = _best(board.table, shown, mixed)
    present = [track for track in TRACKS if (board.table["track"] == track).any()]
    for place, track in enumerate(present):
        if place:
            text.write(f"\\midrule\n\\multicolumn{{{2 + len(shown)}}}{{l}}{{\\emph{{{escape(TRACKS[track])}}}}} \\\\\n")
        for _, row in board.table[board.table["track"] == track].iterrows():
            rank = "--" if pd.isna(row["rank"]) else escape(str(row["rank"]))
            cells = [_cell(row, column, best) for column in shown]
            text.write(" & ".join([rank, escape(str(row["title"])), *cells]) + " \\\\\n")
    text.write("\\bottomrule\n\\end{tabular}\n\\end{table}\n")
    return text.getvalue()


def _best(table: pd.DataFrame, columns: list[Column], mixed: bool) -> set[tuple[str, str]]:
    """(key of a column, method with the best value), of every start where they are mixed."""
    automatic = table[table["track"] == "automatic"].set_index("method")
    starts = automatic["start"] if mixed else automatic["start"].map(lambda _: "")
    best = set()
    for column in (column for column in columns if column.better):
        values = pd.to_numeric(automatic[column.source]).dropna()
        for start, members in values.groupby(starts):
            if len(members) > 1 and start != NO_WEIGHTS:
                best.add((column.key, str(members.idxmax() if column.better == "higher" else members.idxmin())))
    return best


def _cell(row: pd.Series, column: Column, best: set[tuple[str, str]]) -> str:
    key = column.source
    if not column.better:
        return escape(column.cell(row).main)
    if pd.isna(row[key]):
        return "--"
    value = escape(number(row[key], column.digits))
    value = f"\\textbf{{{value}}}" if (column.key, row["method"]) in best else value
    ends = interval(row.get(f"{key}_low"), row.get(f"{key}_high"), column.digits)
    return f"{value} {{\\scriptsize {escape(ends)}}}" if ends else value


def escape(text: str) -> str:
    """Names come from data and config: none of their characters may be a command."""
    return "".join(_SPECIAL.get(character, character) for character in text)
