"""The site of a growing leaderboard: pages without scripts, everything from a submission escaped, names of files made of hashes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from harness.errors import UserError
from harness.files import atomic_write_text
from reports.analysis.fairness import equal_terms
from reports.analysis.starts import are_mixed
from reports.figures.drawing import SHADE, SHADE_OPACITY
from reports.page.folds import main_columns
from reports.page.html import make_environment, read_resource
from reports.page.sections import domain_pages, method_pages
from reports.records.provenance import Section, provenance_sections
from reports.submissions.entries import Entry
from reports.submissions.export import as_json, schema
from reports.submissions.history import Event, history
from reports.submissions.rankings import Compute, Ranking, Row, build_rankings
from reports.tables.cells import Column, shown_in
from reports.tables.columns import METHOD, informative_columns
from reports.tables.leaderboard import TRACKS, build_leaderboard, columns_of

_STYLES = ("leaderboard.css", "pages.css", "folds.css", "site.css")
_MARKER = "leaderboard.schema.json"
"""Written first: a folder that has it holds a site, if only the beginning of one."""
_PAGES = ("methods", "datasets")
TRUST_WORDS = {
    "verified": (
        "Verified",
        "Every Dice and other metric was computed here, from the submitted masks and this site's own copy of the data. That shows whose"
        " masks fit best. Who submits, how the masks were made, costs and guessed modalities remain the submitter's word.",
    ),
    "unverified": (
        "Unverified",
        "Numbers as they were sent: nobody recomputed them. They are ranked among themselves, and never with verified ones.",
    ),
}


@dataclass(frozen=True)
class Site:
    """What was built. `entries` are all files that were found, those that were refused among them."""

    folder: Path
    entries: list[Entry]
    rankings: list[Ranking]

    @property
    def index(self) -> Path:
        return self.folder / "index.html"

    @property
    def refused(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.verdict.state == "refused"]


def build_site(entries: Sequence[Entry], out: Path, compute: Compute = build_leaderboard) -> Site:
    """Writes the site; equal submissions give equal pages. Pages of an earlier build that no longer belong to it are removed.

    Args:
        compute: `build_leaderboard`, or that of a guarded process.

    Raises:
        UserError: `out` holds something else than an earlier site.
    """
    _prepare(out)
    rankings, judged = build_rankings(entries, compute)
    events = history(rankings)
    environment = make_environment()
    names = _data_names(rankings)
    common: dict[str, Any] = {"style": _style(environment), "names": names}
    # What is linked to comes before what links to it.
    pages: dict[str, str] = {}
    for ranking in rankings:
        pages |= _methods(environment, common, ranking, events)
    for data in names:
        own = [ranking for ranking in rankings if ranking.data == data]
        pages[f"datasets/{data[:16]}.html"] = _dataset(environment, common, own, [e for e in events if e.data == data])
    pages["leaderboard.json"] = as_json(judged, rankings, events, names)
    pages["index.html"] = _index(environment, common, judged, rankings, events)
    _write(out, {_MARKER: json.dumps(schema(), indent=1) + "\n", **pages})
    return Site(out, judged, rankings)


def _prepare(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: expected a folder for the site, found a file.")
    if out.is_dir() and any(out.iterdir()) and not (out / _MARKER).exists():
        raise UserError(f"--out {out}: expected an empty folder, or a site that was built before; found other files.")


def _write(out: Path, files: dict[str, str]) -> None:
    """Writes the files in their order and then removes older pages: where it is interrupted, every link leads to a page."""
    for name, text in files.items():
        atomic_write_text(out / name, text)
    for folder in _PAGES:
        for path in (out / folder).glob("*.html"):
            if f"{folder}/{path.name}" not in files:
                path.unlink()


def _style(environment: Environment) -> Markup:
    red, green, blue = (round(255 * part) for part in SHADE)
    shade = f":root {{ --shade-color: rgb({red} {green} {blue}); --shade-opacity: {SHADE_OPACITY}; }}"
    # Marked as safe: our own files.
    return Markup("\n".join([shade, *(read_resource(environment, name) for name in _STYLES)]))


def _data_names(rankings: Sequence[Ranking]) -> dict[str, str]:
    """Id of the data -> what the site calls it: by the oldest submission, with a part of the id where names are alike."""
    named: dict[str, str] = {}
    for ranking in rankings:
        spec = next(trial.spec for trial in ranking.records.trials if trial.spec)
        named.setdefault(ranking.data, f"{spec.data.name}, {spec.protocol.name.replace('_', ' ')}")
    alike = list(named.values())
    return {data: f"{name} ({data[:8]})" if alike.count(name) > 1 else name for data, name in named.items()}


def _index(
    environment: Environment, common: dict[str, Any], entries: Sequence[Entry], rankings: Sequence[Ranking],
    events: Sequence[Event],
) -> str:  # fmt: skip
    states = [entry.verdict.state for entry in entries]
    facts = [
        (str(len(entries)), "submission" if len(entries) == 1 else "submissions"),
        *((str(states.count(state)), state) for state in ("verified", "unverified", "refused")),
        (str(sum(len(ranking.rows) for ranking in rankings)), "rows"),
    ]
    return environment.get_template("site_index.html.j2").render(
        **common, root="", title="Leaderboard", kicker=_last(entries), facts=facts,
        parts=[_part(ranking, brief=True) for ranking in rankings], events=list(reversed(events)),
        submissions=[_submission(entry, rankings) for entry in reversed(entries)],
    )  # fmt: skip


def _last(entries: Sequence[Entry]) -> str:
    return f"Last submission {max(entry.received for entry in entries)}"


def _dataset(
    environment: Environment, common: dict[str, Any], rankings: Sequence[Ranking], events: Sequence[Event]
) -> str:
    first = rankings[0]
    splits = {trial.fold: trial.spec.split for ranking in rankings for trial in ranking.records.trials if trial.spec}
    tests = first.records.samples[first.records.samples["role"] == "test"]
    facts = [
        (str(len(first.records.domains)), "unseen domains" if first.records.unseen else "test domains"),
        (f"{tests['key'].nunique():,}", "test images"),
        (str(sum(len(ranking.rows) for ranking in rankings)), "rows"),
    ]
    parts = [_part(ranking, brief=False) for ranking in rankings]
    for part, ranking in zip(parts, rankings, strict=True):
        metrics = shown_in("domains", part["all_columns"])
        part["domains"] = list(domain_pages(ranking.records, ranking.board, metrics))
        part["domain_metrics"] = metrics
        part["pages"] = [ranking.rows[name].page for name in ranking.board.table["method"]]
        part["terms"], part["differences"] = equal_terms(ranking.board.differences), ranking.board.differences
    return environment.get_template("site_dataset.html.j2").render(
        **common, root="../", title=common["names"][first.data], kicker=f"Dataset {first.data[:16]}", facts=facts,
        parts=parts, events=list(reversed(events)), data=first.data,
        fingerprints=[(name, ", ".join(split.held_out) or "none", split.fingerprint) for name, split in sorted(splits.items())],
        rules=dict(next(trial.spec for trial in first.records.trials if trial.spec).settings()["metrics"]),
    )  # fmt: skip


def _part(ranking: Ranking, *, brief: bool) -> dict[str, Any]:
    """What a page shows of a ranking: its tracks with their rows, and what its columns mean."""
    board, records = ranking.board, ranking.records
    every = columns_of(board, records)
    shown = informative_columns(shown_in("ranking", every), board.table)
    if brief:
        kept = main_columns(records, shown)
        shown = [column for column in shown if column.key in kept]
    present = [track for track in TRACKS if (board.table["track"] == track).any()]
    return {
        "data": ranking.data,
        "id": f"{ranking.trust}-{ranking.data[:8]}",
        "trust": ranking.trust,
        "trust_title": TRUST_WORDS[ranking.trust][0],
        "trust_words": TRUST_WORDS[ranking.trust][1],
        "headline": board.headline,
        "cautions": board.cautions,
        "notes": board.notes,
        "mixed_starts": are_mixed(board.table["start"]),
        "unseen": records.unseen,
        "columns": shown,
        "all_columns": every,
        "further": None if brief else _further(every, board.table),
        "groups": [
            {
                "track": track,
                "heading": TRACKS[track] if len(present) > 1 or track != "automatic" else "",
                "rows": [
                    _ranked_row(ranking.rows[row["method"]], row, shown)
                    for _, row in board.table[board.table["track"] == track].iterrows()
                ],
            }
            for track in present
        ],
    }


def _further(every: list[Column], table: pd.DataFrame) -> dict[str, Any]:
    shown = [METHOD, *shown_in("metrics", every)]
    return {
        "columns": shown,
        "rows": [[(column, column.cell(row)) for column in shown] for _, row in table.iterrows()],
    }


def _ranked_row(row: Row, values: pd.Series, shown: list[Column]) -> dict[str, Any]:
    return {
        "page": row.page,
        "source": ", ".join(filter(None, [row.method["name"], row.entry.submitter["name"], row.entry.received[:10]])),
        "marks": [
            *(["external"] if values["external"] else []),
            *(["resized"] if values["resized"] else []),
            *(["sees test images"] if values["sees_test_images"] else []),
            *(["possibly seen"] if values["possibly_seen"] else []),
        ],
        "cells": [(column, column.cell(values)) for column in shown],
    }


def _submission(entry: Entry, rankings: Sequence[Ranking]) -> dict[str, Any]:
    sent = entry.verdict.submission
    own = [row for ranking in rankings for row in ranking.rows.values() if row.entry.submission is sent]
    titles = {name: facts.title for ranking in rankings for name, facts in ranking.records.methods.items()}
    return {
        **entry.facts(),
        "size": f"{sent.bytes / 1e6:.2f} MB" if sent else "",
        "digest": sent.digest if sent else "",
        "rows": [(row.page, titles[row.name]) for row in own],
    }


def _methods(
    environment: Environment, common: dict[str, Any], ranking: Ranking, events: Sequence[Event]
) -> dict[str, str]:
    """File name -> page of one method of one submission."""
    part = _part(ranking, brief=True)
    metrics = shown_in("domains", part["all_columns"])
    found = {}
    for page in method_pages(ranking.records, ranking.board, metrics):
        row = ranking.rows[page["method"]]
        found[f"methods/{row.page}.html"] = environment.get_template("site_method.html.j2").render(
            **common, root="../", title=page["title"], kicker=f"Method, {ranking.trust}", facts=[],
            page=page, part=part, metrics=metrics, entry=row.entry, submitter=row.entry.submitter,
            event=next(event for event in events if event.method == row.name),
            runs=[f"{run['suite']} {run['time']}" for run in row.entry.submission.manifest["runs"]],  # type: ignore[attr-defined]
            provenance=_provenance(ranking, row),
        )  # fmt: skip
    return found


def _provenance(ranking: Ranking, row: Row) -> list[Section]:
    """Of one row; its command and its data stand elsewhere on the page."""
    sections = provenance_sections(replace(ranking.records, trials=ranking.records.trials_of(row.name)))
    return [section for section in sections if section[0] not in ("Command", "Data")]
