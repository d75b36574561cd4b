"""The leaderboard as one HTML file: no network, no framework, everything from data or config escaped."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.methods.card import NO_WEIGHTS
from reports.analysis.costs import form_table
from reports.analysis.fairness import equal_terms
from reports.analysis.starts import are_mixed
from reports.analysis.terms import chosen_title, search_words, searched_keys
from reports.figures.drawing import SHADE, SHADE_OPACITY, Figure
from reports.figures.gallery import Gallery
from reports.page.folds import MANY_METHODS, is_large, main_columns, sections, summary_figure
from reports.page.published import Reference, published_words, references
from reports.page.sections import domain_pages, method_pages
from reports.records.formatting import interval, number
from reports.records.frames import rows
from reports.records.provenance import provenance_sections
from reports.records.records import Records
from reports.tables.cells import Column, shown_in
from reports.tables.columns import METHOD, informative_columns
from reports.tables.cost_columns import FORM_COLUMNS
from reports.tables.leaderboard import TRACKS, Leaderboard

_SCRIPTS = ("leaderboard.js", "compare.js", "folds.js")
_STYLES = ("leaderboard.css", "pages.css", "folds.css")
_STATES = ("failed", "missing", "unfinished", "damaged", "undefined")


def render(
    records: Records,
    board: Leaderboard,
    columns: list[Column],
    costs: list[Column],
    figures: list[Figure],
    gallery: Gallery,
    published: list[Any],
    *,
    made: str,
) -> str:
    """The page. `published` are results of papers or of a submission, see `reports.page.published`; `made` is the time that stands on it."""
    environment = make_environment()
    quoted = references(published, records.domains)
    ranking = shown_in("ranking", columns)
    shown = informative_columns(ranking, board.table)
    first = summary_figure(figures)
    others = [figure for figure in figures if figure is not first]
    return environment.get_template("leaderboard.html.j2").render(
        title=_title(records),
        made=made,
        run_time=readable_time(records.suite.time),
        facts=_facts(records, board),
        **_style_and_script(environment),
        views=board.views,
        views_json=safe_json(board.views),
        choices=_choices(board),
        unseen=records.unseen,
        notes=board.notes,
        headline=board.headline,
        cautions=board.cautions,
        columns=shown,
        explained=ranking,
        hardware=board.hardware,
        further=_plain_table([METHOD, *shown_in("metrics", columns)], board.table),
        costs=_plain_table(costs, board.costs),
        forms=_plain_table(FORM_COLUMNS, form_table(board.costs)),
        groups=list(_groups(board, shown)),
        modalities=list(_modalities(board, quoted)),
        published_words=published_words(published),
        comparison=_comparison(board),
        costs_only=bool(records.suite.config.get("costs_only")),
        equal_terms=equal_terms(board.differences, searched=bool(searched_keys(board.terms))),
        differences=board.differences,
        terms=board.terms,
        search_words=search_words(board.terms),
        chosen_title=chosen_title(board.terms),
        summary_figure=first and (first, Markup(first.svg)),
        # Marked as safe: what matplotlib drew, which escapes texts.
        figures=[(figure, Markup(figure.svg)) for figure in others],
        sections=list(sections(records, board, others, gallery)),
        main_columns=main_columns(records, shown),
        many_methods=len(board.table) > MANY_METHODS,
        lazy=is_large(board),
        gallery=gallery,
        titles=dict(zip(board.table["method"], board.table["label"], strict=True)),
        mixed_starts=are_mixed(board.table["start"]),
        numbers={name: place for place, name in enumerate(board.table["method"], 1)},
        failed=_failed(board),
        domain_metrics=shown_in("domains", columns),
        methods=list(method_pages(records, board, shown_in("domains", columns))),
        domains=list(domain_pages(records, board, shown_in("domains", columns))),
        unfinished=[trial for trial in records.trials if trial.state != "done"],
        provenance=provenance_sections(records),
        trials=records.trials,
    )


def _style_and_script(environment: Environment) -> dict[str, Any]:
    """Our own files, marked as safe, and the script's hash, by which browsers know that it is ours."""
    script = "".join(read_resource(environment, name) for name in _SCRIPTS)
    style = "".join(read_resource(environment, name) for name in _STYLES)
    red, green, blue = (round(255 * part) for part in SHADE)
    shade = f":root {{ --shade-color: rgb({red} {green} {blue}); --shade-opacity: {SHADE_OPACITY}; }}"
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return {"style": Markup(f"{shade}\n{style}"), "script": Markup(script), "script_hash": digest}


@cache
def make_environment() -> Environment:
    """Kept, since compiling the templates takes a fifth of a small report's time."""
    return Environment(
        loader=PackageLoader("reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def readable_time(stamp: str) -> str:
    """ "2025-11-23T03-04-05Z" (a folder's name) -> "2025-11-23 03:04 UTC"; anything else as it is."""
    date, _, clock = stamp.partition("T")
    parts = clock.rstrip("xZ").split("-")
    return f"{date} {parts[0]}:{parts[1]} UTC" if len(parts) == 3 else stamp


def safe_json(value: Any) -> Markup:
    """JSON for a script element: nothing in it can end the element or begin markup."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def read_resource(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _title(records: Records) -> str:
    return str(records.suite.name).replace("_", " ")


def _facts(records: Records, board: Leaderboard) -> list[tuple[str, str]]:
    modalities = {domain.split("/")[0] for domain in records.domains}
    tests = records.samples[records.samples["role"] == "test"]
    done = sum(trial.state == "done" for trial in records.trials)
    seeds = sorted({trial.seed for trial in records.trials})
    kind = _plural(len(records.domains), "unseen domain" if records.unseen else "test domain")
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


def _choices(board: Leaderboard) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(attribute of a row, label, [(value, words)]) of the filters that leave something to choose."""
    filters = [
        ("start", "Start", "start"),
        ("prompt", "Prompt", "prompt"),
        ("modality_knowledge", "Modality", "knowledge"),
    ]
    filters.append(("selection", "Selection", "selection"))
    found = []
    for column, label, attribute in filters:
        values = sorted(set(board.table[column].astype(str)))
        if len(values) > 1:
            found.append((attribute, label, [(value, value.replace("_", " ")) for value in values]))
    if len(set(board.table["external"])) > 1:
        found.append(("source", "Masks from", [("own", "this bench"), ("external", "other tools")]))
    if len(board.hardware) > 1:
        machines = [(str(index), machine) for index, machine in enumerate(board.hardware)]
        found.append(("machines", "Measured on", machines))
    return found


def _groups(board: Leaderboard, columns: list[Column]) -> Iterable[dict[str, Any]]:
    """Tracks with their rows; a row has its cells and what the filters look at."""
    present = [track for track in TRACKS if (board.table["track"] == track).any()]
    numbers = {name: place for place, name in enumerate(board.table["method"], 1)}
    for track in present:
        members = board.table[board.table["track"] == track]
        yield {
            "track": track,
            # One track alone needs no heading, unless it says that nothing could be ranked.
            "heading": TRACKS[track] if len(present) > 1 or track != "automatic" else "",
            "rows": [
                {
                    "number": numbers[row["method"]],
                    "cells": [(column, column.cell(row)) for column in columns],
                    "possibly_seen": bool(row["possibly_seen"]),
                    "external": bool(row["external"]),
                    "resized": int(row["resized"]),
                    "sees_test_images": bool(row["sees_test_images"]),
                    "searched": bool(row["searched"]),
                    "start": row["start"],
                    "prompt": row["prompt"],
                    "selection": row["selection"],
                    "knowledge": row["modality_knowledge"],
                    "machines": " ".join(
                        str(index) for index in range(len(board.hardware)) if pd.notna(row[f"throughput_{index}"])
                    ),
                }
                for _, row in members.iterrows()
            ],
        }


def _plain_table(columns: list[Column], table: pd.DataFrame) -> dict[str, Any]:
    body = [[(column, column.cell(row)) for column in columns] for _, row in table.iterrows()]
    return {"columns": columns, "rows": body}


def _modalities(board: Leaderboard, quoted: list[Reference]) -> Iterable[dict[str, Any]]:
    """For every modality a table: a row per method, a column for the mean and one for each domain; then published rows."""
    means = {(row.method, row.modality): row for row in rows(board.modalities)}
    cells = {(row.method, row.domain): row for row in rows(board.domains)}
    numbers = {name: place for place, name in enumerate(dict.fromkeys(board.domains["domain"]), 1)}
    # Where starts differ, each has its own best.
    best_of = sorted(set(board.table["start"]) - {NO_WEIGHTS}) if are_mixed(board.table["start"]) else [""]
    for modality in dict.fromkeys(board.modalities["modality"]):
        domains = [name for name in numbers if name.split("/")[0] == modality]
        body = []
        for row in rows(board.table[["method", "label", "track", "start"]]):
            own = [cells[row.method, domain] for domain in domains]
            shown = [_dice_cell(cell) for cell in (means[row.method, modality], *own)]
            # The mean is possibly seen where one of its domains is.
            shown[0]["possibly_seen"] = any(cell.possibly_seen for cell in own)
            body.append({"title": row.label, "track": row.track, "start": row.start, "cells": shown})
        for place in range(1 + len(domains)):
            for start in best_of:
                _mark_best([row for row in body if start in (row["start"], "")], place)
        images = board.domains.groupby("domain")["images"].max()
        names = [(name.partition("/")[2], int(images[name]), numbers[name]) for name in domains]
        outside = [
            {
                "title": each.title,
                "source": each.source,
                "cells": [each.values.get(key) for key in (modality, *domains)],
            }
            for each in quoted
            if any(key in each.values for key in (modality, *domains))
        ]
        yield {"name": modality, "domains": names, "rows": body, "published": outside}


def _dice_cell(row: Any) -> dict[str, Any]:
    if pd.isna(row.dice):
        return {
            "dice": None,
            "state": row.state if row.state in _STATES else "missing",
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


def _comparison(board: Leaderboard) -> dict[str, Any] | None:
    """Pairs in words: those with the best first, then all others."""
    found = board.comparison
    if found is None:
        return None
    titles = dict(zip(board.table["method"], board.table["label"], strict=True))
    pairs = [
        {
            "better": titles[row.better],
            "worse": titles[row.worse],
            "difference": number(row.difference),
            "interval": interval(row.difference_low, row.difference_high),
            "permutation": p_value(row.permutation),
            "wilcoxon": p_value(row.wilcoxon),
            "effect": number(row.rank_biserial, 2),
            "surely": row.permutation <= 0.05,
            "equal_start": row.equal_start,
        }
        for row in rows(found.pairs)
    ]
    first = len(found.methods) - 1
    ties: dict[int, list[str]] = {}
    for name in found.methods:
        ties.setdefault(found.groups[name], []).append(titles[name])
    over = found.over_domains
    return {
        "with_best": pairs[:first],
        "others": pairs[first:],
        "ties": ties,
        "friedman": over and p_value(over.p_value),
    }


def p_value(value: float) -> str:
    """ "0.012", or "< 0.001"."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _failed(board: Leaderboard) -> list[dict[str, Any]]:
    """Methods and domains with failed predictions, most failures first; at most 100."""
    table = board.failures.assign(bad=board.failures[["missed", "elsewhere", "false_alarms"]].sum(axis=1))
    table = table[table["bad"] > 0].sort_values("bad", ascending=False, kind="stable").head(100)
    titles = dict(zip(board.table["method"], board.table["label"], strict=True))
    return [{"title": titles[row.method], **row._asdict()} for row in rows(table)]
