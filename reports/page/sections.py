"""What stands on the page of one method and of one domain."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.analysis.spread import FAILURES
from reports.records.formatting import MISSING, SELECTION_WORDS, interval, number
from reports.records.frames import rows as table_rows
from reports.records.records import MethodFacts, Records, ReportedTrial
from reports.tables.cells import Column
from reports.tables.leaderboard import Leaderboard

_START = {"scratch": "from scratch", "none": "learns no weights", "not stated": "its card does not state it"}
_CARD = ("paper", "licence", "pretrained", "url", "note")


def method_pages(records: Records, board: Leaderboard, metrics: list[Column]) -> Iterator[dict[str, Any]]:
    """For every method, in the order of the ranking: its card, a row for each domain, how to reproduce it."""
    cells = _cells(board, metrics)
    tuned = {each.method: "; ".join(each.chosen) for each in board.terms if each.choices}
    for place, row in enumerate(table_rows(board.table), 1):
        facts = records.methods[row.method]
        trials = records.trials_of(row.method)
        yield {
            "number": place,
            "method": row.method,
            "title": row.title,
            "track": row.track,
            "facts": _facts(facts, row, trials, tuned.get(row.method, "")),
            "commands": commands(facts, trials),
            "rows": [{"title": domain, **cells[row.method, domain]} for domain in records.domains],
        }


def domain_pages(records: Records, board: Leaderboard, metrics: list[Column]) -> Iterator[dict[str, Any]]:
    """For every domain: its methods, the highest Dice first, and what is known of its images."""
    cells = _cells(board, metrics)
    numbers = {name: place for place, name in enumerate(board.table["method"], 1)}
    titles = dict(zip(board.table["method"], board.table["label"], strict=True))
    tracks = dict(zip(board.table["method"], board.table["track"], strict=True))
    tests = records.samples[records.samples["role"] == "test"].drop_duplicates("key")
    places = dict(list(tests.groupby(tests["modality"].astype(str) + "/" + tests["domain"].astype(str))))
    for place, domain in enumerate(records.domains, 1):
        own = [
            {"title": titles[name], "number": numbers[name], "track": tracks[name], **cells[name, domain]}
            for name in board.table["method"]
        ]
        yield {
            "number": place,
            "title": domain,
            "facts": _images(places[domain]) if domain in places else [],
            "rows": sorted(own, key=lambda cell: -cell["value"] if cell["value"] is not None else 1.0),
        }


def commands(facts: MethodFacts, trials: list[ReportedTrial]) -> list[str]:
    """The commands that made a method's trials, narrowed to this method; the most frequent first."""
    counts = Counter(tuple(map(str, trial.provenance.get("command") or ())) for trial in trials if trial.provenance)
    return [shlex.join(_narrowed(words, facts.origin or facts.name)) for words, _ in counts.most_common() if words]


def _narrowed(words: tuple[str, ...], name: str) -> list[str]:
    # Other commands (evaluate) name their one method themselves.
    if "run" not in words:
        return list(words)
    # "unet+mixstyle@per_modality" is what a run makes of a method, an algorithm and protocol.scope=both.
    method, plus, algorithm = name.removesuffix("@per_modality").partition("+")
    kept = [word for word in words if not word.startswith(("method=", "algorithm="))]
    return [*kept, f"method=[{method}]", *([f"algorithm=[{algorithm}]"] if plus else [])]


def _facts(facts: MethodFacts, row: Any, trials: list[ReportedTrial], tuned: str) -> list[tuple[str, str]]:
    card = facts.card
    knowledge = {
        "none": "does not use the modality",
        "given": "gets the true modality",
        "inferred": "infers the modality from the image",
    }[facts.modality_knowledge]
    if pd.notna(row.guess_accuracy):
        knowledge += f", right on {100 * row.guess_accuracy:.1f} % of the test images"
    seconds = sum(trial.seconds or 0 for trial in trials)
    pretrained_on = ", ".join(map(str, card.get("pretrained_on") or []))
    entries = [
        ("Name in the configuration", facts.origin or facts.name),
        *((name.capitalize(), str(card[name])) for name in _CARD if card.get(name)),
        ("Start", _START.get(facts.start, facts.start)),
        ("Pretrained on", pretrained_on or "no public dataset named"),
        ("Possibly seen test domains", ", ".join(row.possibly_seen)),
        ("Algorithm", _algorithm(card)),
        ("Test images", "adapts to the unlabelled images of each domain" if facts.sees_test_images else ""),
        ("Prompt", facts.prompt),
        ("Modality", knowledge),
        ("Measured here from", "masks of another tool" if facts.external else "its own training and testing"),
        (
            "Masks resized",
            f"{facts.resized}, by nearest neighbour, to the size of their images" if facts.resized else "",
        ),
        ("Weights chosen by", SELECTION_WORDS.get(facts.selection, facts.selection)),
        ("Chosen by nested search", tuned),
        ("Image size", f"{facts.image_size} px, {facts.geometry}" if facts.image_size else ""),
        ("Version", str(facts.version or "")),
        ("Trials", f"{row.trials_done} of {row.trials_expected} finished, {seconds / 3600:.2f} hours in all"),
        ("Without a result", "; ".join(row.missing)),
    ]
    return [(name, value) for name, value in entries if value]


def _algorithm(card: dict[str, Any]) -> str:
    algorithm = card.get("algorithm")
    return f"{algorithm['title']} ({algorithm['paper']}; {algorithm['licence']})" if algorithm else ""


def _images(tests: pd.DataFrame) -> list[tuple[str, str]]:
    parts = tests["reference_pixels"] / (tests["width"] * tests["height"])
    subjects = tests["subject"].nunique()
    return [
        ("Test images", f"{len(tests):,}"),
        ("Subjects", f"{subjects:,}" if subjects else "not recorded: images count as independent"),
        ("Size, median", f"{tests['width'].median():.0f} × {tests['height'].median():.0f} px"),
        ("Foreground, median", f"{100 * parts.median():.1f} %"),
        ("Without an object", f"{int((tests['reference_pixels'] == 0).sum()):,}"),
    ]


def _cells(board: Leaderboard, metrics: list[Column]) -> dict[tuple[str, str], dict[str, Any]]:
    """(method, domain) -> what its row shows."""
    spread = {(row.method, row.domain): row for row in table_rows(board.spread)}
    failures = {(row.method, row.domain): row for row in table_rows(board.failures)}
    cells = {}
    for row in table_rows(board.domains):
        key = (row.method, row.domain)
        known = pd.notna(row.dice)
        quantiles, failed = spread.get(key), failures.get(key)
        cells[key] = {
            "value": float(row.dice) if known else None,
            "dice": number(row.dice) if known else "",
            "interval": interval(row.dice_low, row.dice_high),
            "state": row.state,
            "why": row.why,
            "metrics": [number(getattr(row, column.source), column.digits) for column in metrics],
            "images": row.images,
            "box": _box(quantiles) if known and quantiles is not None and pd.notna(quantiles.median) else None,
            "failures": _failed(failed) if known and failed is not None else MISSING,
            "possibly_seen": row.possibly_seen,
        }
    return cells


def _box(row: Any) -> dict[str, str]:
    """Places of a drawing that is 100 wide, and the words for it."""
    places = {
        name: f"{100 * getattr(row, name):.1f}"
        for name in ("low", "lower_quartile", "median", "upper_quartile", "high")
    }
    width = f"{100 * max(row.upper_quartile - row.lower_quartile, 0.004):.1f}"
    words = f"median {row.median:.2f}, quartiles {row.lower_quartile:.2f} and {row.upper_quartile:.2f}, 5 to 95 %: {row.low:.2f} to {row.high:.2f}"
    return {**places, "width": width, "words": words}


def _failed(row: Any) -> str:
    names = {"missed": "missed", "elsewhere": "elsewhere", "false_alarms": "false alarm", "both_empty": "both empty"}
    found = [f"{getattr(row, key)} {names[key]}" for key in FAILURES if getattr(row, key)]
    return ", ".join(found) or "none"
