"""The leaderboard as one HTML file: no network, no framework, everything from data or config escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports.columns import Column, interval, number
from reports.figures import SHADE, SHADE_OPACITY, Figure
from reports.frames import rows
from reports.gallery import Gallery
from reports.leaderboard import TRACKS, Leaderboard
from reports.provenance import provenance_sections
from reports.records import Records

STATE_WORDS = {
    "failed": "failed",
    "missing": "missing",
    "unfinished": "unfinished",
    "damaged": "damaged",
    "undefined": "undefined",
}


def render(
    records: Records,
    board: Leaderboard,
    columns: list[Column],
    further: list[Column],
    costs: list[Column],
    figures: list[Figure],
    gallery: Gallery,
    *,
    made: str,
) -> str:
    """The page. Columns are those of the ranking, of more metrics and of costs; `made` is the time that stands on it."""
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _resource(environment, "leaderboard.js")
    red, green, blue = (round(255 * part) for part in SHADE)
    shade = f":root {{ --shade-color: rgb({red} {green} {blue}); --shade-opacity: {SHADE_OPACITY}; }}"
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return environment.get_template("leaderboard.html.j2").render(
        title=_title(records),
        made=made,
        run_time=readable_time(records.suite.time),
        facts=_facts(records, board),
        # Marked as safe: our own files, and what matplotlib drew, which escapes texts.
        style=Markup(f"{shade}\n{_resource(environment, 'leaderboard.css')}"),
        script=Markup(script),
        script_hash=digest,
        unseen=records.unseen,
        notes=board.notes,
        headline=board.headline,
        cautions=board.cautions,
        columns=columns,
        hardware=board.hardware,
        further=_plain_table(further, board.table),
        costs=_plain_table(costs, board.costs),
        groups=list(_groups(board, columns)),
        modalities=list(_modalities(board)),
        figures=[(figure, Markup(figure.svg)) for figure in figures],
        gallery=gallery,
        titles=dict(zip(board.table["method"], board.table["title"], strict=True)),
        unfinished=[trial for trial in records.trials if trial.state != "done"],
        provenance=provenance_sections(records),
        trials=records.trials,
    )


def readable_time(stamp: str) -> str:
    """ "2025-11-23T03-04-05Z" (a folder's name) -> "2025-11-23 03:04 UTC"; anything else as it is."""
    date, _, clock = stamp.partition("T")
    parts = clock.rstrip("xZ").split("-")
    return f"{date} {parts[0]}:{parts[1]} UTC" if len(parts) == 3 else stamp


def _resource(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _title(records: Records) -> str:
    return str(records.suite.name).replace("_", " ")


def _facts(records: Records, board: Leaderboard) -> list[tuple[str, str]]:
    modalities = {domain.split("/")[0] for domain in records.domains}
    tests = records.samples[records.samples["role"] == "test"]
    done = sum(trial.state == "done" for trial in records.trials)
    seeds = sorted({trial.seed for trial in records.trials})
    kind = "unseen domains" if records.unseen else "test domains"
    return [
        (str(len(records.methods)), "methods"),
        (
            str(len(records.domains)),
            f"{kind} in {len(modalities)} {_plural(len(modalities), 'modality', 'modalities')}",
        ),
        (f"{tests['key'].nunique():,}", "test images"),
        (str(len(seeds)), _plural(len(seeds), "seed")),
        (f"{done} of {len(records.trials)}", "trials finished"),
    ]


def _plural(count: int, word: str, many: str = "") -> str:
    return word if count == 1 else many or f"{word}s"


def _groups(board: Leaderboard, columns: list[Column]) -> Iterable[dict[str, Any]]:
    """Tracks with their rows; a row is a list of (column, cell)."""
    present = [track for track in TRACKS if (board.table["track"] == track).any()]
    for track in present:
        members = board.table[board.table["track"] == track]
        yield {
            "track": track,
            # One track alone needs no heading, unless it says that nothing could be ranked.
            "heading": TRACKS[track] if len(present) > 1 or track != "automatic" else "",
            "rows": [
                {
                    "cells": [(column, column.cell(row)) for column in columns],
                    "possibly_seen": bool(row["possibly_seen"]),
                }
                for _, row in members.iterrows()
            ],
        }


def _plain_table(columns: list[Column], table: pd.DataFrame) -> dict[str, Any]:
    body = [[(column, column.cell(row)) for column in columns] for _, row in table.iterrows()]
    return {"columns": columns, "rows": body}


def _modalities(board: Leaderboard) -> Iterable[dict[str, Any]]:
    """For every modality a table: a row per method, a column for the mean and one for each domain."""
    means = {(row.method, row.modality): row for row in rows(board.modalities)}
    cells = {(row.method, row.domain): row for row in rows(board.domains)}
    for modality in dict.fromkeys(board.modalities["modality"]):
        domains = [name for name in dict.fromkeys(board.domains["domain"]) if name.split("/")[0] == modality]
        body = []
        for row in rows(board.table[["method", "title", "track"]]):
            own = [cells[row.method, domain] for domain in domains]
            shown = [_dice_cell(cell) for cell in (means[row.method, modality], *own)]
            body.append({"title": row.title, "track": row.track, "cells": shown})
        for place in range(1 + len(domains)):
            _mark_best(body, place)
        images = board.domains.groupby("domain")["images"].max()
        names = [(name.partition("/")[2], int(images[name])) for name in domains]
        yield {"name": modality, "domains": names, "rows": body}


def _dice_cell(row: Any) -> dict[str, Any]:
    if pd.isna(row.dice):
        return {
            "dice": None,
            "state": STATE_WORDS.get(row.state, "missing"),
            "why": getattr(row, "why", ""),
            "best": False,
        }
    return {
        "dice": number(row.dice),
        "value": float(row.dice),
        "shade": round(100 * float(row.dice)),
        "interval": interval(row.dice_low, row.dice_high),
        "seen": "" if pd.isna(row.seen) else number(row.seen),
        "possibly_seen": getattr(row, "possibly_seen", False),
        "best": False,
    }


def _mark_best(rows: list[dict[str, Any]], place: int) -> None:
    """Of the automatic, complete methods; it says nothing about significance, only where to look."""
    candidates = [row["cells"][place] for row in rows if row["track"] == "automatic" and row["cells"][place]["dice"]]
    if len(candidates) > 1:
        max(candidates, key=lambda cell: cell["value"])["best"] = True
