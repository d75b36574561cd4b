"""The ranking as a LaTeX table for a paper: booktabs, best in bold, intervals below the values."""

from __future__ import annotations

from io import StringIO

import pandas as pd

from reports.records.formatting import interval, number
from reports.tables.cells import Column, shown_in
from reports.tables.leaderboard import TRACKS, Leaderboard

_UP, _DOWN = r"$\uparrow$", r"$\downarrow$"
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "–": "--", "—": "---", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "\n": " ", "\r": " ",
}  # fmt: skip


def latex(board: Leaderboard, columns: list[Column], title: str) -> str:
    """A `table` environment that needs the package booktabs. Bold marks the best of the automatic, complete methods."""
    text, shown = StringIO(), shown_in("latex", columns)
    text.write("% Needs \\usepackage{booktabs} and, for other than Latin letters, XeLaTeX or LuaLaTeX.\n")
    text.write("\\begin{table}\n\\centering\n")
    text.write(f"\\caption{{{escape(title)}. {escape(board.headline)}. 95\\,\\% bootstrap intervals in brackets.}}\n")
    text.write(f"\\begin{{tabular}}{{ll{'r' * len(shown)}}}\n\\toprule\n")
    arrows = [f"{escape(column.title)} {_UP if column.better == 'higher' else _DOWN}" for column in shown]
    text.write(" & ".join(["Rank", "Method", *arrows]) + " \\\\\n\\midrule\n")
    best = _best(board.table, shown)
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


def _best(table: pd.DataFrame, columns: list[Column]) -> dict[str, str]:
    """Key of a column -> method with the best value."""
    automatic = table[table["track"] == "automatic"].set_index("method")
    best = {}
    for column in columns:
        values = pd.to_numeric(automatic[column.source]).dropna()
        if len(values) > 1:
            best[column.key] = str(values.idxmax() if column.better == "higher" else values.idxmin())
    return best


def _cell(row: pd.Series, column: Column, best: dict[str, str]) -> str:
    key = column.source
    if pd.isna(row[key]):
        return "--"
    value = escape(number(row[key], column.digits))
    value = f"\\textbf{{{value}}}" if best.get(column.key) == row["method"] else value
    ends = interval(row.get(f"{key}_low"), row.get(f"{key}_high"), column.digits)
    return f"{value} {{\\scriptsize {escape(ends)}}}" if ends else value


def escape(text: str) -> str:
    """Names come from data and config: none of their characters may be a command."""
    return "".join(_SPECIAL.get(character, character) for character in text)
