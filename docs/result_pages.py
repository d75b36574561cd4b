"""Results that the project publishes: the tables of a file that `submit` wrote, as a report's Markdown has them."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "results"


def results(file: str) -> str:
    """The tables of `results/FILE`."""
    from harness.submissions.guard import judge
    from reports.submissions.entries import Entry
    from reports.submissions.rankings import build_rankings
    from reports.tables.cost_columns import cost_columns
    from reports.tables.files import markdown
    from reports.tables.leaderboard import columns_of

    (ranking,), _ = build_rankings([Entry(file, "", judge(FOLDER / file, None))])
    records, board = ranking.records, ranking.board
    text = markdown(records, board, columns_of(board, records), cost_columns(board.costs), file)
    _, _, tables = text.partition("\n\n")
    # A method's name in the file's own ranking ends in the file's digest, which tells a reader nothing.
    return re.sub(r"^## ", "### ", re.sub(r"@[0-9a-f]{16}-\d+", "", tables), flags=re.MULTILINE)
