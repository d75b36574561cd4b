"""The site as JSON, for other programs: `leaderboard.json` by the schema beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

from harness import __version__
from harness.metrics import shown_metrics
from reports.records.frames import rows as table_rows
from reports.submissions.entries import Entry
from reports.submissions.history import Event
from reports.submissions.rankings import Ranking
from reports.tables.json import plain_json

FORMAT_VERSION = 1
"""Rises when a field changes its meaning or goes; new fields don't raise it."""
_FIELDS = (
    "title", "track", "rank", "rank_in_start", "start", "dice", "dice_low", "dice_high", "prompt", "selection",
    "pretrained_on", "possibly_seen", "external", "sees_test_images", "parameters_total", "gmacs",
)  # fmt: skip


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a site's `leaderboard.json`."""
    text = resources.files("reports.submissions").joinpath("site.schema.json").read_text("utf-8")
    return dict(json.loads(text))


def as_json(
    entries: Sequence[Entry], rankings: Sequence[Ranking], events: Sequence[Event], names: Mapping[str, str]
) -> str:
    """All rankings with full precision; undefined and missing values are null."""
    document = {
        "format_version": FORMAT_VERSION,
        "bench": __version__,
        "rankings": [_ranking(ranking, names[ranking.data]) for ranking in rankings],
        "submissions": [_submission(entry) for entry in entries],
        "history": [asdict(event) for event in events],
    }
    return json.dumps(plain_json(document), ensure_ascii=True, indent=1, allow_nan=False) + "\n"


def _ranking(ranking: Ranking, title: str) -> dict[str, Any]:
    specs = [trial.spec for trial in ranking.records.trials if trial.spec]
    domains: dict[str, dict[str, float]] = {}
    for cell in table_rows(ranking.board.domains):
        domains.setdefault(cell.method, {})[cell.domain] = cell.dice
    methods = []
    for _, row in ranking.board.table.iterrows():
        origin = ranking.rows[row["method"]]
        methods.append(
            {
                "method": row["method"],
                "name": origin.method["name"],
                "submission": origin.entry.submission.digest,
                "page": f"methods/{origin.page}.html",
                **{key: row[key] for key in _FIELDS},
                **{name: row[name] for name in shown_metrics() if name != "dice"},
                "domains": domains.get(row["method"], {}),
            }
        )
    return {
        "data": ranking.data,
        "title": title,
        "trust": ranking.trust,
        "page": f"datasets/{ranking.data[:16]}.html",
        "protocol": specs[0].protocol.name,
        "metrics": asdict(specs[0].evaluation),
        "splits": {spec.split.name: spec.split.fingerprint for spec in specs},
        "domains": ranking.records.domains,
        "methods": methods,
    }


def _submission(entry: Entry) -> dict[str, Any]:
    found = entry.verdict.submission
    return {**entry.facts(), "sha256": found.digest if found else None}
