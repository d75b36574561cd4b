"""What finished trials say about those to come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.stores import finished_trial

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
