"""A fold's search, on Ray Tune, is blind to the domain that the fold holds out."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.config import RunConfig, SweepConfig
from harness.planning.plan import Plan, build_plan
from harness.search import ray_search
from harness.search.configurations import configured, default_values
from harness.search.objective import evaluate_configuration
from harness.search.ray_search import ConfigurationResult, Search, SearchProgress, Setting, placed, run_search
from harness.search.sampling import listed
from harness.search.space import Parameter
from harness.search.sweep import ray_for
from harness.search.tuned_run import plan_tuned_run, search_all, tuned_trials
from harness.store.records import SearchChoice
from harness.store.store import Store
from harness.trial import TrialContext
from harness.trial_spec import TrialSpec

pytestmark = pytest.mark.e2e
SPACE = [Parameter("training.learning_rate", "log_uniform", (1e-4, 1e-1))]


@pytest.fixture
def quiet_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from harness.execution.ray.environment import RAY_ENVIRONMENT

    for key, value in RAY_ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    tests = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{tests.parent}:{tests}")  # where workers find the toy methods
    names = ("ray", "ray.tune", "ray.tune.tune")
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def poison(root: Path, *domains: str) -> None:
    """Noise in place of every image of the domains, their masks inverted."""
    random = np.random.default_rng(1)
    for domain in domains:
        for path in root.glob(f"*/{domain}/images/*.png"):
            width, height = Image.open(path).size
            Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        for path in root.glob(f"*/{domain}/masks/*.png"):
            Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    (root / "manifest.csv").unlink()


def decisions(search: Any) -> list[dict[str, Any]]:
    return [asdict(attempt) for attempt in search.attempts]


def test_a_poisoned_test_domain_changes_no_decision(
    toy_config: Callable[..., RunConfig], small_dataset: Path, tmp_path: Path, quiet_ray: None
) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed (extra `search`)")
    sweep = SweepConfig(sampler="optuna", scheduler="asha")
    sweep.budget.trials = 5

    def suite_of(name: str, *poisoned: str) -> Plan:
        config = toy_config("TinyConv", epochs=3)
        config.data.root = str(shutil.copytree(small_dataset, tmp_path / name))
        poison(Path(config.data.root), *poisoned)
        return build_plan(config)

    suites = {
        "clean": suite_of("clean"),
        "test": suite_of("test", "clinic_a", "scanner_a"),
    }
    assert suites["clean"].splits[0].held_out == ("dermoscopy/clinic_a", "ultrasound/scanner_a")
    context = TrialContext(str(tmp_path / "runs"), str(tmp_path / "cache"))
    setting = Setting(sweep, SPACE, context, 3, tmp_path / "sweep")
    found: dict[str, Any] = {}
    trials, config = suites["clean"].trials, suites["clean"].config
    with ray_for(trials, config, context) as cluster:
        setting = placed(setting, cluster, config.executor, trials)
        assert setting.slots == 1
        for name, suite in suites.items():
            own = replace(
                setting,
                context=replace(context, store_root=str(tmp_path / f"runs-{name}")),
                folder=tmp_path / f"sweep-{name}",
            )
            found[name] = run_search(
                "fold0", suite.trials, own, SearchProgress(), seconds=math.inf, gpu_seconds=math.inf
            )

    assert decisions(found["clean"]) == decisions(found["test"])
    assert found["clean"].best is not None and found["clean"].best.objective == found["test"].best.objective
    # The same look finds a difference where there is one: the default's, which no scheduler stops.
    poisoned = suite_of("training", "clinic_b", "scanner_b").trials
    default = evaluate_configuration(
        poisoned, replace(context, store_root=str(tmp_path / "runs-training")), 3, tmp_path / "sweep-training",
        lambda news: None,
    )  # fmt: skip
    assert default["state"] == "done" and default["dice"] != found["clean"].default.dice
    assert {attempt.state for attempt in found["clean"].attempts} == {"done", "stopped"}
    # The same weights by their ids, of other masks: the test images are no part of a training.
    for folder, alike in (("trials/*", True), ("trials/*/predictions/*", False)):
        clean, test = ({path.name for path in (tmp_path / f"runs-{name}").glob(folder)} for name in ("clean", "test"))
        assert (clean == test) == alike and (bool(clean & test) == alike)


def searched_here(title: str, trials: Sequence[TrialSpec], setting: Setting, *_: Any, **limits: float) -> Search:
    """A grid's search as `run_search` makes it, in this process: Ray, which the test above goes through, starts a worker for
    each of twelve."""
    attempts = []
    for number, values in enumerate(listed(setting.space, default_values(trials[0], setting.space), "grid", None, 0)):
        own = [configured(trial, setting.space, values) for trial in trials]
        end = evaluate_configuration(own, setting.context, setting.epochs, setting.folder, lambda news: None)
        attempts.append(ConfigurationResult(number, values, end["state"], end["objective"], end["dice"]))
    return Search(title, [trial.split.name for trial in trials], setting.epochs, attempts, 0.0)


def test_with_several_methods_no_fold_is_helped_by_its_test_domain(
    toy_config: Callable[..., RunConfig], small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    no_ray: list[Any],
) -> None:  # fmt: skip
    monkeypatch.setattr(ray_search, "run_search", searched_here)

    def choices(name: str, *poisoned: str) -> dict[tuple[str, str], SearchChoice]:
        config = toy_config("TinyConv", "TwoStages", epochs=1)
        config.protocol.max_folds, config.sweep.sampler, config.sweep.budget.trials = 2, "grid", None
        config.sweep.parameters = {"training.learning_rate": {"grid": [1e-4, 0.1]}}
        config.store.root = str(tmp_path / f"runs-{name}")
        config.data.root = str(shutil.copytree(small_dataset, tmp_path / name))
        poison(Path(config.data.root), *poisoned)
        tuned, store = plan_tuned_run(config, build_plan(config)), Store(config.store.root)
        store.prepare()
        found = search_all(tuned, store, [], SearchProgress(), lambda sweep: None, lambda sweep, outcome: None)
        plan, entries = tuned_trials(tuned, found)
        # Each was trained by its own fold's search, with what that chose.
        assert all(store.result(trial.ids) is not None for trial in plan.trials)
        assert [entry.search for entry in entries] == [found[t.method.name][t.split.name] for t in plan.trials]
        return {(method, fold): choice for method, folds in found.items() for fold, choice in folds.items()}

    clean, poisoned = choices("clean"), choices("poisoned", "clinic_a", "scanner_a")
    assert set(clean) == {(method, fold) for method in ("tinyconv", "twostages") for fold in ("fold0", "fold1")}
    # fold0 tests on the poisoned domains, fold1 trains on them: the first decides alike to the bit, the second does not.
    for (method, fold), choice in clean.items():
        assert (poisoned[method, fold] == choice) == (fold == "fold0")
