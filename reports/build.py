"""Makes all outputs of one run: the page, CSV and Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.files import atomic_write_text
from harness.store import Store, SuiteRecord, now
from reports.columns import Column, columns, cost_columns, metric_columns
from reports.leaderboard import Leaderboard, build_leaderboard
from reports.records import read_records

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report, and its table for the terminal."""

    html: Path
    csv: Path
    domains_csv: Path
    costs_csv: Path
    markdown: Path
    title: str
    board: Leaderboard = field(repr=False)
    columns: list[Column] = field(repr=False)

    def print_table(self, console: Console | None = None) -> None:
        from reports.terminal import print_leaderboard

        print_leaderboard(self.board, self.columns, self.title, console)


def build_report(store_root: Path | str, suite_folder: Path | str, out: Path | str) -> ReportPaths:
    """Reads a run from the store and writes its report into `out`, each file whole or not at all.

    Trials that failed or are not there leave visible holes, never an error.

    Args:
        suite_folder: `<store>/suites/<name>/<time>`, as `Store.start_suite` gave it.

    Raises:
        UserError: no such run in the store, no trial in it, or `out` can't be written.
    """
    from reports import export
    from reports.figures import draw_figures
    from reports.gallery import build_gallery
    from reports.html import readable_time, render

    store = Store(store_root)
    suite = _suite_at(store, Path(suite_folder))
    if not suite.trials:
        raise UserError(f"The run {suite.folder} asked for no trials: there is nothing to report.")
    records = read_records(store, suite)
    board = build_leaderboard(records)
    shown = columns(board.hardware, unseen=records.unseen, seen_where_tested=records.seen_where_tested)
    further, costs = metric_columns(records.nsd_tolerance), cost_columns()
    figures = draw_figures(board, records.curves, unseen=records.unseen)
    gallery = build_gallery(records, board)
    title = f"{suite.name}, run of {readable_time(suite.time)}"
    folder = Path(out)
    paths = ReportPaths(
        html=folder / "leaderboard.html",
        csv=folder / "leaderboard.csv",
        domains_csv=folder / "domains.csv",
        costs_csv=folder / "costs.csv",
        markdown=folder / "leaderboard.md",
        title=title,
        board=board,
        columns=shown,
    )
    made = now().replace("T", " ").replace("+00:00", " UTC")
    page = render(records, board, shown, further, costs, figures, gallery, made=made)
    atomic_write_text(paths.html, page)
    atomic_write_text(paths.csv, export.ranking_csv(board))
    atomic_write_text(paths.domains_csv, export.domains_csv(board))
    atomic_write_text(paths.costs_csv, export.costs_csv(board))
    atomic_write_text(paths.markdown, export.markdown(records, board, shown, further, costs, title))
    return paths


def _suite_at(store: Store, folder: Path) -> SuiteRecord:
    wanted = folder.expanduser().resolve()
    for record in store.suites():
        if record.folder == wanted:
            return record
    raise UserError(f"Expected a run of a suite in {wanted}, found none. Its folder holds config.yaml and trials.json.")
