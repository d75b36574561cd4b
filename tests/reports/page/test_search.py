"""The page of a hyperparameter search: what it says, that it is safe, and that it opens anywhere."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from reports.page.search.page import build_search_report, headline
from reports.page.search.record import SearchRecord, importance, read_search

NASTY = "<script>alert(1)</script>"


def attempt(number: int, rate: float, kind: str, objective: float | None, last: float, time: int = 4) -> dict[str, Any]:
    return {
        "number": number,
        "values": {"training.learning_rate": rate, "training.schedule": kind},
        "state": "stopped" if objective is None else "done",
        "objective": objective,
        "dice": [] if objective is None else [objective - 0.1, objective + 0.1],
        "history": [[step, last * step / time] for step in range(1, time + 1)],
        "reason": None,
        "schedule": None,
    }


def search_json() -> dict[str, Any]:
    attempts = [
        attempt(0, 1e-3, "one_cycle", 0.5, 0.5),
        attempt(1, 3e-3, "cosine", 0.6, 0.6),
        attempt(2, 1e-4, "cosine", None, 0.1, time=1),
        attempt(3, 5e-3, NASTY, 0.4, 0.4),
        attempt(4, 2e-4, "one_cycle", None, 0.15, time=1),
        attempt(5, 4e-3, "one_cycle", None, 0.15, time=1),
    ]
    search = {"title": "fold0", "folds": ["fold0"], "epochs": 2, "attempts": attempts, "seconds": 30.0, "ended": None}
    return {
        "schema_version": 1, "name": "asha", "method": "unet", "title": f"U-Net {NASTY}", "suite": "toys", "data": "mine",
        "command": ["python", "-m", "harness", "sweep", "sweep=asha"], "sampler": "random", "scheduler": "asha", "seed": 0,
        "budget": {"trials": 6, "hours": 0.5, "gpu_hours": None}, "epochs": 2, "slots": 2, "best": 1,
        "space": [
            {"key": "training.learning_rate", "kind": "log_uniform", "values": [1e-4, 1e-2], "shown": "log_uniform 0.0001, 0.01"},
            {"key": "training.schedule", "kind": "choice", "values": ["one_cycle", "cosine"], "shown": "choice one_cycle, cosine"},
        ],
        "folds": [
            {"name": name, "held_out": ["xray/hospital"], "search": {**search, "title": name}, "choice": choice,
             "test_dice": 0.55, "default_test_dice": 0.5}
            for name, choice in (("fold0", 1), ("fold1", 0))
        ],
        "overall": {**search, "title": "all folds", "folds": ["fold0", "fold1"], "epochs": 4},
        "score": {"tuned": [0.55, 0.5, 0.6], "default": [0.5, 0.45, 0.55], "difference": [0.05, 0.01, 0.09]},
        "tuned": "/somewhere/unet_tuned.yaml", "made": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip


def record_of(content: dict[str, Any]) -> SearchRecord:
    return SearchRecord(content, content["overall"]["attempts"] if content["overall"] else [])


def page_of(content: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "search.json").write_text(json.dumps(content))
    return build_search_report(folder)


def test_the_page_tells_the_search_and_its_worth(tmp_path: Path) -> None:
    html = page_of(search_json(), tmp_path).read_text("utf-8")
    assert "The search beats the default: validation Dice 0.600 against 0.500." in html
    assert "it is 0.050 higher (0.550 against 0.500)." in html
    for words in ("Best so far", "Curves of all configurations", "Parallel coordinates", "Importance of parameters"):
        assert words in html
    assert "learning rate 0.003, schedule cosine" in html and "the default" in html
    assert "[+0.010, +0.090]" in html and "1 of 4" in html
    assert NASTY not in html and "&lt;script&gt;" in html
    assert "<script" not in html and "http://www.w3.org" in html and 'src="http' not in html


def test_honest_headlines() -> None:
    content = search_json()
    content["overall"]["attempts"][1]["objective"] = 0.5
    content["best"] = 0
    assert (
        headline(record_of(content)) == "The search did not beat the default, whose validation Dice is 0.500: keep it."
    )
    content = search_json()
    content["score"]["difference"] = [-0.01, -0.05, 0.03]
    assert "0.010 lower" in headline(record_of(content)) and "do not tell from none" in headline(record_of(content))
    content = search_json()
    content["overall"]["attempts"][0]["objective"] = None
    assert "the budget ended before the default was trained" in headline(record_of(content))
    content["overall"], content["best"], content["score"] = None, None, None
    assert headline(record_of(content)).startswith("The budget ended before any configuration")


def test_importance_finds_the_parameter_that_matters() -> None:
    content = search_json()
    content["overall"]["attempts"] = [
        attempt(number, 1e-4 * 10 ** (number / 10), ("one_cycle", "cosine")[number % 2], 0.1, 0.02 * number)
        for number in range(20)
    ]
    found = importance(record_of(content))
    assert found is not None and found.epochs == 4 and found.configurations == 20
    assert found.shares["training.learning_rate"] > 0.95 and found.shares["training.schedule"] < 0.1
    # Those that were stopped early take part, at the last time that all reached.
    content["overall"]["attempts"][3]["history"] = content["overall"]["attempts"][3]["history"][:1]
    shortened = importance(record_of(content))
    assert shortened is not None and shortened.epochs == 1
    content["scheduler"] = "pbt"
    assert importance(record_of(content)) is None


def test_a_population_shows_its_schedule_and_a_budget_its_end(tmp_path: Path) -> None:
    content = search_json()
    content["scheduler"], content["folds"][0]["search"]["ended"] = "pbt", "its hours are used up"
    for member in content["overall"]["attempts"][1:]:
        member["schedule"] = [{"from_epoch": 1, "to_epoch": 2, "values": member["values"]}]
    html = page_of(content, tmp_path).read_text("utf-8")
    assert "Schedules found: learning rate" in html and "its hours are used up" in html
    nothing = {**copy.deepcopy(content), "overall": None, "best": None, "score": None, "tuned": None}
    for fold in nothing["folds"]:
        fold.update(choice=None, test_dice=None, default_test_dice=None)
    html = page_of(nothing, tmp_path / "nothing").read_text("utf-8")
    assert "no choice" in html and "The budget ended before" in html


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text('{"schema_version": 99}')
    with pytest.raises(UserError, match="schema_version 99"):
        read_search(tmp_path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_in_a_browser(tmp_path: Path, open_page: Callable[..., Any], scheme: str) -> None:
    page = open_page(page_of(search_json(), tmp_path), 390, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("figure svg").count() == 4
