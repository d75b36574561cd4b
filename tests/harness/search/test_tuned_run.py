"""A run of several methods: each fold gets what its own search chose, and nothing stands in for a missing choice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config import RunConfig
from harness.errors import UserError
from harness.planning.plan import build_plan
from harness.search import tuned_run as tuning
from harness.search.ray_search import ConfigurationResult, Search, SearchProgress
from harness.search.sweep import Fold, Outcome, SearchFailed, SweepPlan
from harness.search.tuned_run import TunedRunPlan, choice_of, plan_tuned_run, search_all, tuned_trials
from harness.store.records import SearchChoice, TrialEntry
from harness.store.store import Store

RATE = "training.learning_rate"


@pytest.fixture
def config(toy_config: Callable[..., RunConfig]) -> RunConfig:
    """Two methods that learn and one that does not, two folds, two seeds, two rates beside the default of 0.01."""
    config = toy_config("TinyConv", "TwoStages", "Floor")
    config.protocol.max_folds = 2
    config.seeds = [3, 4]
    config.sweep.name, config.sweep.sampler, config.sweep.budget.trials = "grid", "grid", None
    config.sweep.parameters = {RATE: {"grid": [0.001, 0.1]}}
    return config


def plan(config: RunConfig) -> TunedRunPlan:
    return plan_tuned_run(config, build_plan(config))


def search(*dice: float | None, ended: str | None = None) -> Search:
    """Of the default, 0.001 and 0.1, with these validation Dice."""
    attempts = [
        ConfigurationResult(
            number, {RATE: rate}, "failed" if value is None else "done", value, reason="NaN" if value is None else None
        )
        for number, (rate, value) in enumerate(zip((0.01, 0.001, 0.1), dice, strict=False))
    ]
    return Search("fold0", ["fold0"], 2, attempts, 1.0, ended)


def test_each_method_is_searched_by_itself_with_the_first_seed(config: RunConfig) -> None:
    found = plan(config)
    assert list(found.sweeps) == ["tinyconv", "twostages"]
    assert found.untuned == {"floor": "learns nothing by epochs"}
    for name, sweep in found.sweeps.items():
        assert {(trial.method.name, trial.seed) for trial in sweep.trials} == {(name, 3)}
        assert list(sweep.folds()) == ["fold0", "fold1"] and name in sweep.folder.name
    assert found.plan.config.name == "toys_tuned" and config.name == "toys"


def test_a_fold_gets_what_its_own_search_chose_with_every_seed(config: RunConfig) -> None:
    found = plan(config)
    rates = {"tinyconv": {"fold0": 0.1, "fold1": 0.01}, "twostages": {"fold0": 0.001, "fold1": 0.1}}
    choices = {
        name: {fold: SearchChoice({RATE: rate}, 3) for fold, rate in folds.items()} for name, folds in rates.items()
    }
    made, entries = tuned_trials(found, choices)
    assert [entry.ids for entry in entries] == [trial.ids for trial in made.trials]
    assert len(entries) == 3 * 2 * 2
    for trial, entry in zip(made.trials, entries, strict=True):
        own = rates.get(trial.method.name, {}).get(trial.split.name, 0.01)
        assert trial.trained.learning_rate == own
        assert (entry.search is None) == (trial.method.name == "floor")
    # What is not searched, and the default where it was chosen, are the trials of a plain run; the others differ from them in the id.
    for plain, trial in zip(found.plan.trials, made.trials, strict=True):
        assert (plain.ids == trial.ids) == (trial.trained.learning_rate == 0.01)
        assert plain.label == trial.label


def test_nothing_stands_in_for_a_missing_choice(config: RunConfig, tmp_path: Path) -> None:
    found = plan(config)
    chosen, missing = SearchChoice({RATE: 0.1}, 3), SearchChoice({}, 3, 3, missing="The search failed.")
    choices = {
        "tinyconv": {"fold0": missing, "fold1": chosen},
        "twostages": {"fold0": chosen, "fold1": chosen},
    }
    made, entries = tuned_trials(found, choices)
    assert not [t for t in made.trials if (t.method.name, t.split.name) == ("tinyconv", "fold0")]
    holes = [entry for entry in entries if entry.search and entry.search.missing]
    assert [(hole.method, hole.fold, hole.seed) for hole in holes] == [
        ("tinyconv", "fold0", 3),
        ("tinyconv", "fold0", 4),
    ]
    planned = {getattr(trial.ids, level) for trial in found.plan.trials for level in ("training", "measurement")}
    assert len({hole.ids for hole in holes}) == 2 and not planned & {hole.ids.training for hole in holes}
    # And so it stays when the list is read again.
    assert [TrialEntry.from_json(hole.to_json()).search for hole in holes] == [missing, missing]


def test_a_choice_is_the_best_of_a_complete_search() -> None:
    found = choice_of(Fold("fold0", [], search(0.5, 0.7, 0.6)))
    assert found == SearchChoice({RATE: 0.001}, 3, 0, 0.7, at_edge=(RATE,))
    inside = choice_of(Fold("fold0", [], search(0.5, None, 0.4)))
    assert inside == SearchChoice({RATE: 0.01}, 3, 1, 0.5)


def test_a_failed_or_incomplete_search_chooses_nothing() -> None:
    failed = choice_of(Fold("fold0", [], search(None, None, None)))
    assert (
        failed.values == {}
        and failed.failed == 3
        and "None of 3 configurations got a validation Dice" in failed.missing
    )
    # The default was all that its time allowed: it must not look like a choice.
    ended = choice_of(Fold("fold0", [], search(0.5, ended="its hours are used up")))
    assert ended.values == {} and "incomplete: its hours are used up" in ended.missing


def test_a_failed_search_ends_no_other(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: list[Any]
) -> None:
    def run_sweep(sweep: SweepPlan, *_: Any) -> Outcome:
        own = search(None, None, None) if sweep.trials[0].method.name == "tinyconv" else search(0.5, 0.7, 0.6)
        folds = [Fold("fold0", [], own), Fold("fold1", [], search(0.5, 0.4, 0.3))]
        if own.best is None:
            raise SearchFailed("nothing", folds)
        return Outcome("s", "m", "M", "u", "d", [], "grid", "none", 0, {}, [], 2, 1, folds=folds)

    monkeypatch.setattr(tuning, "run_sweep", run_sweep)
    ended: list[tuple[str, bool]] = []
    choices = search_all(
        plan(config), Store(tmp_path / "runs"), [], SearchProgress(), lambda sweep: None,
        lambda sweep, outcome: ended.append((sweep.trials[0].method.name, outcome is not None)),
    )  # fmt: skip
    assert ended == [("tinyconv", False), ("twostages", True)]
    # Ray is started once, for all of them.
    assert [{trial.method.name for trial in trials} for trials in no_ray] == [{"tinyconv", "twostages"}]
    assert choices["tinyconv"]["fold0"].missing and choices["tinyconv"]["fold1"].values == {RATE: 0.01}
    assert choices["twostages"]["fold0"].values == {RATE: 0.001}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.methods.pop("tinyconv") and c.methods.pop("twostages"), "floor learns nothing by epochs"),
        (lambda c: setattr(c.sweep, "scheduler", "pbt"), "search one method: method=NAME"),
        (lambda c: setattr(c, "reuse", "never"), "are for `run`"),
        (lambda c: setattr(c.training, "selection", "oracle"), "looks at the test domain"),
        (
            lambda c: setattr(c.sweep, "parameters", {"training.learning_rat": {"grid": [1.0]}}),
            "Did you mean 'training.l",
        ),
    ],
)
def test_what_can_not_be_searched_ends_before_anything_runs(
    config: RunConfig, change: Callable[[RunConfig], Any], message: str
) -> None:
    change(config)
    with pytest.raises(UserError, match=message):
        plan(config)
