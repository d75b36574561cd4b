"""What finished trials say about those to come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from support.stores import finished_trial

import suites
from harness.config import ProtocolConfig
from harness.planning.estimate import Estimator
from harness.planning.plan import Plan, build_plan
from harness.store.store import Store
from harness.trial_spec import TrialSpec

ToyPlan = Callable[..., Plan]


def finish(store: Store, trial: TrialSpec, seconds: float) -> None:
    finished_trial(store, trial, pd.DataFrame({"key": ["a"]}), seconds=seconds)


def test_an_empty_store_teaches_nothing(toy_plan: ToyPlan, tmp_path: Path) -> None:
    (trial,) = toy_plan().trials
    assert Estimator(Store(tmp_path / "none")).seconds(trial) is None


def test_the_same_work_takes_as_long_and_the_median_counts(toy_config: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    suite = build_plan(replace(toy_config(), protocol=ProtocolConfig(), seeds=[0, 1]))
    for trial, seconds in zip(suite.trials[:3], (10.0, 12.0, 500.0), strict=True):
        finish(store, trial, seconds)
    assert Estimator(store).seconds(suite.trials[3]) == pytest.approx(12, rel=0.1)


def test_work_grows_with_epochs_and_pixels(toy_plan: ToyPlan, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    finish(store, toy_plan(epochs=100).trials[0], 10.0)
    estimator = Estimator(store)
    assert estimator.seconds(toy_plan(epochs=200).trials[0]) == pytest.approx(20, rel=0.02)
    assert estimator.seconds(toy_plan(epochs=100, image_size=64).trials[0]) == pytest.approx(40)


def test_only_finished_trials_of_the_same_method_count(toy_plan: ToyPlan, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    tiny, floor = toy_plan("TinyConv", "Floor").trials
    finish(store, tiny, 10.0)
    store.start_trial(floor)
    store.write_status(floor.id, "running")
    estimator = Estimator(store)
    assert estimator.seconds(tiny) == pytest.approx(10)
    assert estimator.seconds(floor) is None


def test_what_takes_weights_over_only_predicts(toy_config: Any, tmp_path: Path) -> None:
    """Of two seeds, the first has taken over its weights; the other does so, unless the method by itself is not there."""
    store, config = Store(tmp_path / "runs"), toy_config(epochs=100)
    file = yaml.safe_load((Path(suites.__path__[0]) / "algorithm" / "flips.yaml").read_text())
    plan = build_plan(replace(config, seeds=[0, 1], algorithms={"erm": {**file, "model": None}, "flips": file}))
    alone, other_alone, pair, other = sorted(plan.trials, key=lambda trial: (trial.method.name, trial.seed))
    finish(store, alone, 100.0)
    finished_trial(store, pair, pd.DataFrame({"key": ["a"]}), prediction_seconds=3.0)
    store.copy_training(alone.id, pair.ids)
    assert Estimator(store, plan.trials).seconds(other) == pytest.approx(3)
    assert Estimator(store, [other]).seconds(other) is None
    assert Estimator(store).seconds(other_alone) == pytest.approx(100)
