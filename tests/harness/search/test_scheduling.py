"""ASHA, the budget and Optuna's proposals, without a cluster."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from harness.config import AshaConfig
from harness.errors import UserError
from harness.search.sampling import check_optuna, optuna_searcher
from harness.search.scheduling import Asha, Budget
from harness.search.space import Parameter

SPACE = [Parameter("rate", "log_uniform", (1e-4, 1e-1)), Parameter("kind", "choice", ("a", "b"))]


def decisions(curves: dict[int, list[float]]) -> dict[int, int]:
    """Configuration -> epochs until ASHA stopped it, or all; one configuration after the other."""
    asha, ends = Asha(AshaConfig(grace_epochs=1, reduction_factor=3), epochs=9), {}
    for number, curve in curves.items():
        trial = SimpleNamespace(trial_id=str(number), config={"configuration": {"number": number}})
        asha.on_trial_add(None, trial)
        ends[number] = len(curve)
        for time, value in enumerate(curve, 1):
            if asha.on_trial_result(None, trial, {"time": time, "objective": value}) == TrialScheduler.STOP:
                ends[number] = time
                break
    return ends


def test_the_worse_are_stopped_at_rungs_and_the_default_never() -> None:
    good, bad, late = [0.5] * 9, [0.1] * 9, [0.6, 0.6] + [0.2] * 7
    assert decisions({0: bad, 1: good, 2: bad, 3: late, 4: [0.7] * 9}) == {0: 9, 1: 9, 2: 1, 3: 3, 4: 9}
    # Nothing is left to save in the last epoch.
    assert decisions({0: good, 1: [0.6] * 8 + [0.0]}) == {0: 9, 1: 9}


def test_unscored_epochs_stop_nobody() -> None:
    nan = float("nan")
    assert decisions({0: [nan] * 9, 1: [nan] * 9, 2: [0.1] * 9}) == {0: 9, 1: 9, 2: 9}


def test_a_budget_ends_by_hours_or_gpu_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("harness.search.scheduling.time.monotonic", lambda: clock[0])
    hours, gpus, none = Budget(100, 1e9, 2.0), Budget(1e9, 100, 2.0), Budget(float("inf"), float("inf"), 0.0)
    clock[0] = 49.0
    assert [budget.stop_all() for budget in (hours, gpus, none)] == [False, False, False]
    clock[0] = 51.0
    assert [budget.stop_all() for budget in (hours, gpus, none)] == [False, True, False]
    clock[0] = 101.0
    assert hours.stop_all() and hours.reason == "its hours are used up" and gpus.reason == "its GPU hours are used up"
    assert not none.stop_all()


def proposals(default: dict[str, Any], trials: int, seed: int = 0) -> list[dict[str, Any]]:
    searcher = optuna_searcher(SPACE, default, trials, seed)
    found = []
    for number in range(100):
        suggestion = searcher.suggest(str(number))
        if suggestion == Searcher.FINISHED:
            break
        found.append(suggestion["configuration"])
        value = -abs(found[-1]["values"]["rate"] - 0.01)
        searcher.on_trial_result(str(number), {"objective": value, "time": 1})
        if number % 3:  # else stopped early
            searcher.on_trial_complete(str(number), {"end": {"objective": value}})
        else:
            searcher.on_trial_complete(str(number), {"objective": value, "time": 1})
    return found


@pytest.mark.parametrize("default", [{"rate": 0.001, "kind": "a"}, {"rate": 0.5, "kind": "neither"}])
def test_optuna_begins_with_the_default_and_repeats(default: dict[str, Any]) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed (extra `search`)")
    found = proposals(default, 12)
    assert found[0] == {"number": 0, "values": default}
    assert [each["number"] for each in found] == list(range(12))
    assert len({str(each["values"]) for each in found}) == 12
    assert all(SPACE[0].contains(each["values"]["rate"]) for each in found[1:])
    assert proposals(default, 12) == found != proposals(default, 12, seed=1)


def test_optuna_ends_where_a_space_of_lists_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed (extra `search`)")
    searcher = optuna_searcher(SPACE[1:], {"kind": "a"}, 10, 0)
    assert [searcher.suggest(str(number))["configuration"]["values"] for number in range(2)] == [
        {"kind": "a"},
        {"kind": "b"},
    ]
    assert searcher.suggest("2") == Searcher.FINISHED


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install '\.\[search\]'"):
        check_optuna()
