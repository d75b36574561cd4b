"""A sweep's searches together: shares of the budget, no result at all, nested scores."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from harness.config import RunConfig, SweepConfig
from harness.search import sweep as sweeping
from harness.search.nested_score import mean_test_dice, nested_score
from harness.search.ray_search import ConfigurationResult, Search, Setting
from harness.search.sweep import SearchFailed
from harness.trial import TrialContext


def rows(dice: dict[str, float]) -> pd.DataFrame:
    keys = list(dice)
    parts = [key.split("/") for key in keys]
    return pd.DataFrame(
        {
            "key": keys, "modality": [part[0] for part in parts], "domain": [part[1] for part in parts], "subject": None,
            "role": "test", "dice": list(dice.values()),
        }
    )  # fmt: skip


def test_nested_scores_are_means_over_domains_paired_by_image() -> None:
    default = [rows({"a/x/1": 0.2, "a/x/2": 0.4, "a/x/3": 0.6}), rows({"a/y/1": 0.8, "a/y/2": 0.6})]
    tuned = [rows({"a/x/1": 0.3, "a/x/2": 0.5, "a/x/3": 0.7}), rows({"a/y/1": 0.9, "a/y/2": 0.7})]
    score = nested_score(tuned, default)
    assert score.tuned[0] == pytest.approx(0.65) and score.default[0] == pytest.approx(0.55)
    # Every image gained the same: the interval has no width.
    assert score.difference == pytest.approx((0.1, 0.1, 0.1))
    assert mean_test_dice(pd.concat(default)) == pytest.approx(0.55)


def test_the_search_over_all_folds_weighs_as_many_as_the_folds_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("harness.search.sweep.time.monotonic", lambda: clock[0])
    setting = Setting(SweepConfig(), [], TrialContext("", ""), 3, Path())
    config = RunConfig()
    config.sweep.budget.hours = 1.0
    shares = sweeping._shares(config, setting, 3)
    assert next(shares) == (600.0, math.inf)
    clock[0] = 600.0
    assert next(shares) == (600.0, math.inf)
    clock[0] = 700.0  # the second left 500 s
    assert next(shares)[0] == pytest.approx(725.0)
    clock[0] = 3700.0
    assert next(shares)[0] == 0.0
    config.sweep.budget.hours = None
    assert list(sweeping._shares(config, setting, 1)) == [(math.inf, math.inf)]


def test_no_validation_dice_at_all_is_a_failure() -> None:
    failed = [ConfigurationResult(number, {}, "failed", reason="its validation Dice is NaN") for number in range(3)]
    found = Search("fold0", ["fold0"], 2, failed, 1.0)
    folds = [sweeping.Fold("fold0", [], found)]
    setting = Setting(SweepConfig(), [], TrialContext("the store", ""), 2, Path())
    with pytest.raises(
        SearchFailed, match=r"None of 3 configurations.*its validation Dice is NaN.*the store"
    ) as caught:
        sweeping._check_found(found, folds, setting)
    assert caught.value.folds == folds
    # The end of a budget is no failure: what was found until then is reported.
    found.ended = "its hours are used up"
    sweeping._check_found(found, folds, setting)


def test_the_best_is_the_first_of_equals_and_the_default_is_never_beaten_by_itself() -> None:
    attempts = [
        ConfigurationResult(0, {}, "done", 0.5),
        ConfigurationResult(1, {}, "done", 0.5),
        ConfigurationResult(2, {}, "stopped"),
    ]
    search = Search("all folds", ["fold0"], 2, attempts, 1.0)
    assert search.best is attempts[0]
    outcome = sweeping.Outcome("s", "m", "M", "u", "d", [], "random", "none", 0, {}, [], 2, 1, overall=search)
    assert outcome.beats_default is False
    attempts.append(ConfigurationResult(3, {}, "done", 0.6))
    assert outcome.beats_default is True
    attempts[0].objective = None
    assert outcome.beats_default is None
