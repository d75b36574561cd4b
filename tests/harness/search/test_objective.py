"""A configuration is judged by validation Dice alone; what was trained before is reported again without training."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.planning.plan import Plan, build_plan
from harness.search import objective as judging
from harness.search.curves import Curve, EpochLog, EpochScore
from harness.search.objective import evaluate_configuration
from harness.store.store import Store
from harness.trial import TrialContext

Reports = list[dict[str, Any]]


@pytest.fixture
def suite(toy_config: Callable[..., Any]) -> Plan:
    config = toy_config("TinyConv")
    config.protocol.max_folds = 2
    return build_plan(config)


@pytest.fixture
def context(tmp_path: Path) -> TrialContext:
    return TrialContext(str(tmp_path / "runs"), str(tmp_path / "cache"), checkpoint_seconds=0)


def test_the_running_mean_over_folds(suite: Plan, context: TrialContext, tmp_path: Path) -> None:
    reports: Reports = []
    end = evaluate_configuration(suite.trials, context, 2, tmp_path / "sweep", reports.append)
    assert [each["time"] for each in reports] == [1, 2, 3, 4]
    store = Store(context.store_root)
    best = [store.load(trial.ids).curves["validation_dice"].max() for trial in suite.trials]
    assert end == {"state": "done", "objective": sum(best) / 2, "dice": best, "reason": None}
    assert reports[-1]["objective"] == end["objective"]


def test_what_is_known_is_reported_again_without_training(
    suite: Plan, context: TrialContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: Reports = []
    end = evaluate_configuration(suite.trials, context, 2, tmp_path / "sweep", first.append)

    def never(*args: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(judging, "run_trial", never)
    again: Reports = []
    # In another sweep's folder too: a finished trial reports its own epochs.
    assert evaluate_configuration(suite.trials, context, 2, tmp_path / "other", again.append) == end
    assert again == first


def test_a_stopped_configuration_can_be_continued(suite: Plan, context: TrialContext, tmp_path: Path) -> None:
    undisturbed: Reports = []
    fresh = TrialContext(context.store_root + "-fresh", context.cache_folder)
    evaluate_configuration(suite.trials, fresh, 2, tmp_path / "fresh", undisturbed.append)
    reports: Reports = []

    def stop_after_three(report: dict[str, Any]) -> None:
        reports.append(report)
        if report["time"] == 3:
            raise SystemExit(0)

    with pytest.raises(SystemExit):
        evaluate_configuration(suite.trials, context, 2, tmp_path / "sweep", stop_after_three)
    store, (first, second) = Store(context.store_root), suite.trials
    assert store.result(first.ids) is not None and store.result(second.ids) is None
    assert store.status(second.id).state == "interrupted"
    assert "search" in store.status(second.id).reason
    with store.trial_lock(second.id, patience_seconds=0):
        pass
    again: Reports = []
    evaluate_configuration(suite.trials, context, 2, tmp_path / "sweep", again.append)
    assert reports == undisturbed[:3] and again == undisturbed
    samples = [(Store(root).measurement_folder(second.ids) / "samples.parquet").read_bytes()
               for root in (context.store_root, fresh.store_root)]  # fmt: skip
    assert samples[0] == samples[1]


def test_a_failed_trial_fails_its_configuration(
    toy_plan: Callable[..., Plan], context: TrialContext, tmp_path: Path
) -> None:
    end = evaluate_configuration(toy_plan("LossBecomesNan").trials, context, 2, tmp_path / "sweep", lambda report: None)
    assert end["state"] == "failed" and math.isnan(end["objective"])
    assert "fold0: The training loss became nan" in end["reason"]


def test_out_of_patience_the_next_fold_begins_at_its_own_time(
    toy_config: Callable[..., Any], context: TrialContext, tmp_path: Path
) -> None:
    config = toy_config("TinyConv", epochs=6, patience=1, learning_rate=1e-12)
    config.protocol.max_folds = 2
    reports: Reports = []
    evaluate_configuration(build_plan(config).trials, context, 6, tmp_path / "sweep", reports.append)
    times = [each["time"] for each in reports]
    assert times[-1] == 12 and 6 in times and len(times) < 12


def test_a_curve_follows_the_selection_rule_and_stages() -> None:
    scores = [("a", 0.3), ("a", 0.2), ("b", math.nan), ("b", 0.1), ("b", 0.15)]
    for rule, expected in (
        ("training_domain_validation", [0.3, 0.3, None, 0.1, 0.15]),
        ("last", [0.3, 0.2, None, 0.1, 0.15]),
    ):
        curve, found = Curve(rule), []
        for epoch, (stage, dice) in enumerate(scores, 1):
            curve.add(EpochScore(epoch, stage, dice))
            found.append(None if math.isnan(curve.value) else curve.value)
        assert found == expected


def test_no_table_of_tested_images_is_opened(
    suite: Plan, context: TrialContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("a search read rows of images")

    monkeypatch.setattr("pandas.read_parquet", refuse)
    for folder in ("sweep", "again"):
        end = evaluate_configuration(suite.trials[:1], context, 2, tmp_path / folder, lambda report: None)
        assert end["state"] == "done"
    assert EpochLog(Store(context.store_root), suite.trials[0].ids, tmp_path / "nowhere").finished
