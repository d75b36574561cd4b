"""What stands first on the page, and the folded sections below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reports.analysis.terms import searched_keys
from reports.figures.drawing import Figure
from reports.figures.gallery import Gallery
from reports.records.records import Records
from reports.tables.cells import Column
from reports.tables.leaderboard import Leaderboard

MAIN = frozenset({"rank", "title", "start", "rank_in_start", "dice", "worst", "gap", "parameters_total"})
"""Keys of the ranking's columns that are shown before "All columns" is chosen."""
MANY_METHODS = 15
"""Beyond these the ranking scrolls in its own box."""
LARGE = 800
"""Beyond so many pairs of method and domain folded sections are kept as text until they are opened."""
_IN_SUMMARY = ("critical-difference", "ranks", "gap", "heat")
_SUMMARY_SIZE = (700, 520)


@dataclass(frozen=True)
class Section:
    """A folded section. `short` is its name in the list of sections, `hint` what a reader finds in it."""

    id: str
    short: str
    title: str
    hint: str
    template: str


def sections(records: Records, board: Leaderboard, figures: list[Figure], gallery: Gallery) -> Iterator[Section]:
    """Those that this run has something for, in the order of the page."""
    methods, domains = _count(len(board.table), "method"), _count(len(records.domains), "domain")
    if board.comparison is not None:
        pairs = board.comparison.pairs
        sure = f"{int((pairs['permutation'] <= 0.05).sum())} of {_count(len(pairs), 'pair')} differ surely"
        yield Section("comparison", "Significance", "Who is surely better", sure, "comparison.j2")
    yield Section("domains", "By domain", "By domain", f"{methods}, {domains}", "domains.j2")
    differing = len(board.differences)
    terms = f"{_count(differing, 'method')} trained otherwise" if differing else "the same for all"
    terms += "; tuned by nested search" if searched_keys(board.terms) else ""
    yield Section("terms", "Equal terms", "Equal terms", terms, "fairness.j2")
    yield Section("costs", "Costs", "Costs", "; ".join(board.hardware[:2]) or "not measured", "costs.j2")
    yield Section("metrics", "Metrics", "More metrics", "", "metrics.j2")
    if figures:
        yield Section("figures", "Figures", "Figures", _count(len(figures), "figure"), "figures.j2")
    if gallery.methods or gallery.notes:
        pictures = _count(len(gallery.pictures), "picture")
        yield Section("gallery", "Gallery", "Gallery", pictures, "gallery.j2")
    yield Section("failures", "Failures", "Failures", _failures(records, board), "failures.j2")
    yield Section("methods", "Methods", "Methods", f"{methods}: card, domains, command", "method_pages.j2")
    yield Section("domain-pages", "Domains", "Domains", f"{domains}: images, methods", "domain_pages.j2")
    trials = _count(len(records.trials), "trial")
    yield Section("provenance", "Provenance", "Provenance", f"{trials}: code, data, settings", "provenance.j2")
    yield Section("definitions", "Definitions", "What the columns mean", "", "definitions.j2")


def main_columns(records: Records, columns: list[Column]) -> list[str]:
    """Of the shown columns of the ranking; with trials that lack a result also the one that says so."""
    wanted = MAIN | ({"status"} if any(trial.state != "done" for trial in records.trials) else set())
    return [column.key for column in columns if column.key in wanted]


def summary_figure(figures: list[Figure]) -> Figure | None:
    """The one figure beside the ranking; None where each would take too much room."""
    width, height = _SUMMARY_SIZE
    fitting = {figure.name: figure for figure in figures if figure.width <= width and figure.height <= height}
    return next((fitting[name] for name in _IN_SUMMARY if name in fitting), None)


def is_large(board: Leaderboard) -> bool:
    return len(board.domains) > LARGE


def _failures(records: Records, board: Leaderboard) -> str:
    unfinished = sum(trial.state != "done" for trial in records.trials)
    failed = int(board.failures[["missed", "elsewhere", "false_alarms"]].to_numpy().sum()) if len(board.failures) else 0
    found = [f"{_count(unfinished, 'trial')} without a result"] if unfinished else []
    return ", ".join([*found, f"{_count(failed, 'prediction')} failed"])


def _count(number: int, word: str) -> str:
    return f"{number:,} {word if number == 1 else f'{word}s'}"
