"""The ranking as a LaTeX table for a paper: booktabs, best in bold, intervals below the values."""

from __future__ import annotations

from io import StringIO

import pandas as pd

from reports.formatting import interval, number
from reports.tables.leaderboard import TRACKS, Leaderboard

_COLUMNS = (
    ("dice", "Dice", 3, True),
    ("hd95", "HD95", 1, False),
    ("nsd", "NSD", 3, True),
    ("worst_dice", "Worst domain", 3, True),
    ("seen", "Seen Dice", 3, True),
    ("gap", "Gap", 3, False),
)
"""Column of the table, heading, decimals, whether more is better."""
_UP, _DOWN = r"$\uparrow$", r"$\downarrow$"
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "–": "--", "—": "---", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "\n": " ", "\r": " ",
}  # fmt: skip


def latex(board: Leaderboard, title: str) -> str:
    """A `table` environment that needs the package booktabs. Bold marks the best of the automatic, complete methods."""
    text = StringIO()
    text.write("% Needs \\usepackage{booktabs} and, for other than Latin letters, XeLaTeX or LuaLaTeX.\n")
    text.write("\\begin{table}\n\\centering\n")
    text.write(f"\\caption{{{escape(title)}. {escape(board.headline)}. 95\\,\\% bootstrap intervals in brackets.}}\n")
    text.write(f"\\begin{{tabular}}{{ll{'r' * len(_COLUMNS)}}}\n\\toprule\n")
    arrows = [f"{name} {_UP if higher else _DOWN}" for _, name, _, higher in _COLUMNS]
    text.write(" & ".join(["Rank", "Method", *arrows]) + " \\\\\n\\midrule\n")
    best = _best(board.table)
    present = [track for track in TRACKS if (board.table["track"] == track).any()]
    for place, track in enumerate(present):
        if place:
            text.write(
                f"\\midrule\n\\multicolumn{{{2 + len(_COLUMNS)}}}{{l}}{{\\emph{{{escape(TRACKS[track])}}}}} \\\\\n"
            )
        for _, row in board.table[board.table["track"] == track].iterrows():
            rank = "--" if pd.isna(row["rank"]) else escape(str(row["rank"]))
            cells = [_cell(row, key, digits, best) for key, _, digits, _ in _COLUMNS]
            text.write(" & ".join([rank, escape(str(row["title"])), *cells]) + " \\\\\n")
    text.write("\\bottomrule\n\\end{tabular}\n\\end{table}\n")
    return text.getvalue()


def _best(table: pd.DataFrame) -> dict[str, str]:
    """Column -> method with the best value."""
    automatic = table[table["track"] == "automatic"].set_index("method")
    best = {}
    for key, _, _, higher in _COLUMNS:
        values = pd.to_numeric(automatic[key]).dropna()
        if len(values) > 1:
            best[key] = str(values.idxmax() if higher else values.idxmin())
    return best


def _cell(row: pd.Series, key: str, digits: int, best: dict[str, str]) -> str:
    if pd.isna(row[key]):
        return "--"
    value = escape(number(row[key], digits))
    value = f"\\textbf{{{value}}}" if best.get(key) == row["method"] else value
    ends = interval(row.get(f"{key}_low"), row.get(f"{key}_high"), digits)
    return f"{value} {{\\scriptsize {escape(ends)}}}" if ends else value


def escape(text: str) -> str:
    """Names come from data and config: none of their characters may be a command."""
    return "".join(_SPECIAL.get(character, character) for character in text)
