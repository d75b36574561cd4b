"""Makes all outputs of a report: the page, tables for people and programs, and figures."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.files import atomic_write_bytes, atomic_write_text
from harness.store.records import SuiteRecord
from harness.store.store import Store
from harness.store.trial_state import now
from reports.page.published import left_out
from reports.records.records import Records
from reports.records.runs import read_runs
from reports.records.selection import Selection, select
from reports.tables.cells import Column
from reports.tables.cost_columns import cost_columns
from reports.tables.leaderboard import Leaderboard, build_leaderboard, columns_of

if TYPE_CHECKING:
    from rich.console import Console

    from reports.records.published import PublishedResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report, and its table for the terminal."""

    folder: Path
    title: str
    board: Leaderboard = field(repr=False)
    columns: list[Column] = field(repr=False)

    @property
    def html(self) -> Path:
        return self.folder / "leaderboard.html"

    @property
    def words(self) -> str:
        """Where the files are, for the terminal; the page comes last."""
        names = ", ".join(path.name for path in (self.latex, self.csv, self.markdown, self.domains_csv))
        return f"Tables beside the page: {names}\nReport: {self.html}"

    @property
    def csv(self) -> Path:
        return self.folder / "leaderboard.csv"

    @property
    def domains_csv(self) -> Path:
        return self.folder / "domains.csv"

    @property
    def costs_csv(self) -> Path:
        return self.folder / "costs.csv"

    @property
    def markdown(self) -> Path:
        return self.folder / "leaderboard.md"

    @property
    def latex(self) -> Path:
        return self.folder / "leaderboard.tex"

    @property
    def json(self) -> Path:
        return self.folder / "leaderboard.json"

    @property
    def parquet(self) -> Path:
        """The ranking; domains.parquet and images.parquet stand beside it."""
        return self.folder / "leaderboard.parquet"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    def print_table(self, console: Console | None = None) -> None:
        from reports.tables.terminal import print_leaderboard

        print_leaderboard(self.board, self.columns, self.title, console)

    def print_costs(self, console: Console | None = None) -> None:
        from reports.tables.terminal import print_costs

        print_costs(self.board, cost_columns(self.board.costs), self.title, console)


def build_report(
    store_root: Path | str,
    suite_folder: Path | str,
    out: Path | str,
) -> ReportPaths:
    """Reads a run from the store and writes its report into `out`, each file whole or not at all.

    Trials that failed or are not there leave visible holes, never an error.

    Args:
        suite_folder: `<store>/suites/<name>/<time>`, as `Store.start_suite` gave it.

    Raises:
        UserError: no such run in the store, no trial in it, or `out` can't be written.
    """
    store = Store(store_root)
    return build_report_of([(store, _suite_at(store, Path(suite_folder)))], out)


def build_report_of(
    runs: Sequence[tuple[Store, SuiteRecord]],
    out: Path | str,
    *,
    selection: Selection | None = None,
    published: Sequence[Path] = (),
    figure_files: bool = False,
) -> ReportPaths:
    """As `build_report`, of one run or of several together.

    Args:
        selection: only a part of the methods, domains and seeds.
        published: YAML files of results that papers report, see `reports.records.published`, and files that `submit` wrote.
        figure_files: also write every figure as SVG, PDF and PNG into `<out>/figures`.
    """
    from reports.figures.all_figures import draw_figures, save_figures
    from reports.figures.gallery import build_gallery
    from reports.page.html import render

    for _, suite in runs:
        if not suite.trials:
            raise UserError(f"The run {suite.folder} asked for no trials: there is nothing to report.")
    records = select(read_runs(runs), selection or Selection())
    quoted = _read_published(published, records.domains)
    board = build_leaderboard(records)
    found = columns_of(board, records)
    figures = draw_figures(board, records.curves, unseen=records.unseen)
    gallery = build_gallery(records, board)
    paths = ReportPaths(Path(out), _title(records), board, found)
    made = now().replace("T", " ").replace("+00:00", " UTC")
    atomic_write_text(
        paths.html, render(records, board, found, cost_columns(board.costs), figures, gallery, quoted, made=made)
    )
    _write_tables(records, paths, made)
    if figure_files:
        save_figures(board, records.curves, paths.figures, unseen=records.unseen)
    return paths


def _write_tables(records: Records, paths: ReportPaths, made: str) -> None:
    from reports.tables import files as export
    from reports.tables.json import as_json, schema
    from reports.tables.latex import latex

    board = paths.board
    atomic_write_text(paths.csv, export.ranking_csv(board))
    atomic_write_text(paths.domains_csv, export.domains_csv(board))
    atomic_write_text(paths.costs_csv, export.costs_csv(board))
    atomic_write_text(
        paths.markdown, export.markdown(records, board, paths.columns, cost_columns(board.costs), paths.title)
    )
    atomic_write_text(paths.latex, latex(board, paths.columns, paths.title))
    atomic_write_text(paths.json, as_json(records, board, paths.title, made))
    atomic_write_text(paths.folder / "leaderboard.schema.json", json.dumps(schema(), indent=1, ensure_ascii=False))
    for name, content in export.parquet_files(board).items():
        atomic_write_bytes(paths.folder / name, content)


def _title(records: Records) -> str:
    from reports.page.html import readable_time

    return f"{records.suite.name}, run of {readable_time(records.suite.time)}"


def _read_published(files: Sequence[Path], domains: Sequence[str]) -> list[PublishedResult]:
    """The results of all files, in their order. Of each file it is said what a report of `domains` leaves out.

    Raises:
        UserError: a file can't be read, or has a result of the same name and source as an earlier one.
    """
    first: dict[tuple[object, ...], int] = {}
    results = []
    for number, file in enumerate(files):
        own = _published_in(file)
        for sentence in left_out(own, domains):
            logger.warning("%s: %s", file, sentence)
        for result in own:
            earlier = first.setdefault(result.place, number)
            if earlier != number:
                where = "/".join(filter(None, (result.modality, result.domain)))
                raise UserError(
                    f"--published {files[earlier]} and {file} both have {result.method} on {where} ({result.metric}), from the same"
                    f" source ({result.source}): give one of them, or another name to one of the files."
                )
        results += own
    return results


def _published_in(path: Path) -> list[PublishedResult]:
    if path.suffix.lower() == ".zip":
        from reports.analysis.submitted import submitted_results

        return submitted_results(path)
    from reports.records.published import read_published

    return read_published(path)


def _suite_at(store: Store, folder: Path) -> SuiteRecord:
    wanted = folder.expanduser().resolve()
    for record in store.suites():
        if record.folder == wanted:
            return record
    raise UserError(f"Expected a run of a suite in {wanted}, found none. Its folder holds config.yaml and trials.json.")
