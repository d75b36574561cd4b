"""The report of a hyperparameter search: one self-contained page beside the `search.json` that `sweep` writes."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.files import atomic_write_text
from harness.statistics import TOLERANCE
from harness.store.trial_state import now
from reports.page.search.figures import draw_search_figures
from reports.page.search.record import Importance, SearchRecord, importance, read_search
from reports.records.formatting import MISSING, fixed, interval, number, short, value_words, values_words


def build_search_report(folder: Path) -> Path:
    """Writes `search.html` into a sweep's folder and returns its path.

    Raises:
        UserError: the folder holds no search, or can't be written.
    """
    record = read_search(folder)
    made = now().replace("T", " ").replace("+00:00", " UTC")
    atomic_write_text(folder / "search.html", render_search(record, made=made))
    return folder / "search.html"


def render_search(record: SearchRecord, *, made: str) -> str:
    """The page; `made` is the time that stands on it."""
    environment = Environment(
        loader=PackageLoader("reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    assert environment.loader is not None
    style = "\n".join(environment.loader.get_source(environment, name)[0] for name in ("leaderboard.css", "pages.css"))
    content, found = record.content, importance(record)
    default = record.default or {"values": {}}
    return environment.get_template("search.html.j2").render(
        content={**content, "made": str(content["made"]).replace("T", " ").replace("+00:00", " UTC")},
        made=made,
        # Marked as safe: our own files, and what matplotlib drew, which escapes texts.
        style=Markup(style),
        headline=headline(record),
        cautions=_cautions(record),
        facts=_facts(record),
        nested=[_nested_row(fold) for fold in content["folds"]],
        score=_score(content["score"]),
        figures=[(figure, Markup(figure.svg)) for figure in draw_search_figures(record, found)],
        space=[
            {
                **each,
                "title": short(each["key"]),
                "default": value_words(default["values"][each["key"]]) if each["key"] in default["values"] else MISSING,
            }
            for each in record.space
        ],
        folds=_trial_names(record),
        configurations=_configurations(record),
        settings=_settings(record),
        definitions=_definitions(record, found),
    )


def headline(record: SearchRecord) -> str:
    """What was found, in two sentences at most, and whether it beats the default."""
    best, default = record.best, record.default
    if best is None:
        return "The budget ended before any configuration was trained on all folds."
    if default is None or default["objective"] is None:
        return f"Best validation Dice {number(best['objective'])}; the budget ended before the default was trained."
    if best["objective"] <= default["objective"] + TOLERANCE:
        return f"The search did not beat the default, whose validation Dice is {number(default['objective'])}: keep it."
    content = f"The search beats the default: validation Dice {number(best['objective'])} against {number(default['objective'])}."
    score = record.content["score"]
    if score is None:
        return content
    value, low, high = score["difference"]
    sure = low is not None and (low > 0 or high < 0)
    gained = "higher" if value > 0 else "lower"
    unseen = (
        f" On unseen domains, with parameters chosen without them, it is {fixed(abs(value), 3)} {gained}"
        f" ({number(score['tuned'][0])} against {number(score['default'][0])})"
    )
    return content + unseen + ("." if sure else ", a difference that the test images do not tell from none.")


def _cautions(record: SearchRecord) -> list[str]:
    content = record.content
    searches = [fold["search"] for fold in content["folds"]] + ([content["overall"]] if content["overall"] else [])
    ended = sorted({search["ended"] for search in searches if search["ended"]})
    cautions = [f"Ended early: {reason}. The same command with a larger budget goes on." for reason in ended]
    if content["data"] == "phantoms":
        cautions.insert(0, "Phantoms: drawn images. Shows that everything works, not how good a method is.")
    return cautions


def _facts(record: SearchRecord) -> list[tuple[str, str]]:
    content = record.content
    searches = [fold["search"] for fold in content["folds"]]
    if len(searches) > 1 and content["overall"]:
        searches.append(content["overall"])
    seconds = sum(search["seconds"] for search in searches)
    stopped = sum(each["state"] == "stopped" for each in record.attempts)
    return [
        (str(len(record.attempts)), "configurations"),
        (str(len(record.done)), "trained on all folds"),
        (str(stopped), "stopped early"),
        (str(len(content["folds"])), "folds" if len(content["folds"]) > 1 else "fold"),
        (f"{seconds / 60:.1f} min", "for all searches"),
    ]


def _nested_row(fold: dict[str, Any]) -> dict[str, str]:
    attempts = {each["number"]: each for each in fold["search"]["attempts"]}
    chosen = attempts.get(fold["choice"])
    difference = None if fold["test_dice"] is None else fold["test_dice"] - fold["default_test_dice"]
    if chosen is None:
        choice = "no choice"
    else:
        choice = "the default" if chosen["number"] == 0 else values_words(chosen["values"])
    return {
        "fold": fold["name"],
        "ended": fold["search"]["ended"] or "",
        "held_out": ", ".join(fold["held_out"]) or "no domain: tested in training domains",
        "choice": choice,
        "objective": number(chosen["objective"] if chosen else None),
        "test": number(fold["test_dice"]),
        "default": number(fold["default_test_dice"]),
        "difference": MISSING if difference is None else _signed(difference),
    }


def _score(score: dict[str, list[float]] | None) -> list[tuple[str, str]]:
    """(value, interval) of the tuned method, of the default and of their difference."""
    if score is None:
        return []
    written = [(number(score[key][0]), interval(score[key][1], score[key][2])) for key in ("tuned", "default")]
    value, low, high = score["difference"]
    span = "" if low is None or high is None else f"[{_signed(low)}, {_signed(high)}]"
    return [*written, (_signed(value), span)]


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _trial_names(record: SearchRecord) -> list[str]:
    """The folds of the search over all, one for each seed."""
    folds = list((record.content["overall"] or {"folds": []})["folds"])
    counts: dict[str, int] = {}
    names = []
    for fold in folds:
        counts[fold] = counts.get(fold, 0) + 1
        names.append(fold if folds.count(fold) == 1 else f"{fold} ({counts[fold]})")
    return names


def _configurations(record: SearchRecord) -> list[dict[str, Any]]:
    rows = []
    trials = len(_trial_names(record))
    order = sorted(
        record.attempts,
        key=lambda each: (-(each["objective"] if each["objective"] is not None else -math.inf), each["number"]),
    )
    for each in order:
        history = [row for row in each["history"] if row[1] is not None]
        rows.append(
            {
                "name": "default" if each["number"] == 0 else str(each["number"]),
                "parameters": [value_words(each["values"][parameter["key"]]) for parameter in record.space],
                "state": each["state"],
                "reason": each["reason"] or "",
                "done": each["objective"] is not None,
                "best": record.best is not None and each["number"] == record.best["number"],
                "epochs": f"{each['history'][-1][0] if each['history'] else 0} of {record.content['overall']['epochs']}",
                "mean": number(
                    each["objective"] if each["objective"] is not None else history[-1][1] if history else None
                ),
                "dice": [number(each["dice"][place] if place < len(each["dice"]) else None) for place in range(trials)],
            }
        )
    return rows


def _settings(record: SearchRecord) -> list[tuple[str, str]]:
    content, budget = record.content, record.content["budget"]
    limits = [f"{budget['trials'] or 'all'} configurations"]
    limits += [f"{budget[key]:g} {key.replace('_', ' ')}" for key in ("hours", "gpu_hours") if budget[key]]
    return [
        ("sampler", content["sampler"]),
        ("scheduler", content["scheduler"]),
        ("seed", str(content["seed"])),
        ("budget", ", ".join(limits)),
        ("at a time", str(content["slots"])),
        ("suite, data", f"{content['suite']}, {content['data']}"),
        ("command", shlex.join(content["command"])),
        ("written", content["tuned"] or "nothing: the default stays"),
    ]


def _definitions(record: SearchRecord, found: Importance | None) -> list[tuple[str, str]]:
    content = record.content
    definitions = [
        (
            "Validation Dice",
            "On validation images of training domains, at the network's size, of the epoch that the selection rule chooses;"
            " mean over images, then domains, then folds. A search is shown nothing else.",
        ),
        (
            "Nested",
            "In leave-one-domain-out every domain trains and validates in all folds but its own. Parameters that were chosen"
            " by a mean over folds were chosen with the help of each fold's test domain. So each fold has a search of its"
            " own, whose samples, stops and choice depend on that fold's training and validation images alone, and only the"
            " test of that choice counts.",
        ),
        (
            "The configuration to use",
            "The best by the mean over all folds, for new data. It has no test score here: on these domains it would flatter.",
        ),
    ]
    if content["scheduler"] == "asha":
        definitions.append(
            (
                "Stopped early",
                "ASHA: at growing numbers of epochs only the best part goes on. Every configuration goes through folds and"
                " epochs in the same order, so like is compared with like. The default is never stopped.",
            )
        )
    if content["scheduler"] == "pbt":
        definitions.append(
            (
                "Population",
                "After every few epochs the worst members copy the state of the best, on the same folds, and go on with their"
                " values multiplied by 0.8 or 1.2. The values in the tables are those at the end; the schedule is what was"
                " found.",
            )
        )
    if found is not None:
        definitions.append(
            (
                "Importance",
                f"Adjusted R² of a fit of one parameter alone (a parabola, on a logarithmic scale where it was searched so; the"
                f" mean of each value of a list) to the validation Dice of {found.configurations} configurations after"
                f" {found.epochs} epoch{'' if found.epochs == 1 else 's'}, the last time that all of them reached. Interactions are not in it.",
            )
        )
    return definitions
