"""A sweep: one search for each fold alone, then one over all folds, and what both found."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import RunConfig
from harness.errors import TrialFailed, UserError, counted
from harness.execution.ray.environment import RAY_ENVIRONMENT
from harness.files import atomic_write_json, atomic_write_text, sha256_json
from harness.planning.checks import check_methods
from harness.planning.datasets import cache_folder
from harness.planning.plan import Plan
from harness.search.configurations import check_space, configured, method_yaml, tuned_name
from harness.search.nested_score import NestedScore, mean_test_dice, nested_score, tested_rows
from harness.search.sampling import check_optuna, needed
from harness.search.space import Parameter, parse_space
from harness.store.store import Store
from harness.store.trial_state import now
from harness.trial import TrialContext
from harness.trial_spec import TrialSpec

if TYPE_CHECKING:
    import pandas as pd

    from harness.execution.ray.cluster import Cluster
    from harness.search.ray_search import ConfigurationResult, Search, SearchProgress, Setting

SCHEMA_VERSION = 1
OWN_PROGRAM = "is trained by a program of its own, which reports no epochs"
NO_EPOCHS = "learns nothing by epochs"


@dataclass
class Fold:
    """The nested search of one fold and the test of its choice; None where the budget left no choice."""

    name: str
    held_out: list[str]
    search: Search
    choice: int | None = None
    test_dice: float | None = None
    default_test_dice: float | None = None


@dataclass
class Outcome:
    """All that a sweep found; `search.json` in its folder."""

    name: str
    method: str
    title: str
    suite: str
    data: str
    command: list[str]
    sampler: str
    scheduler: str
    seed: int
    budget: dict[str, Any]
    space: list[dict[str, Any]]
    epochs: int
    slots: int
    folds: list[Fold] = field(default_factory=list)
    overall: Search | None = None
    best: int | None = None
    score: NestedScore | None = None
    tuned: str | None = None
    made: str = ""

    @property
    def default_objective(self) -> float | None:
        default = self.overall.default if self.overall else None
        return default.objective if default else None

    @property
    def best_attempt(self) -> ConfigurationResult | None:
        return self.overall.best if self.overall else None

    @property
    def beats_default(self) -> bool | None:
        """By validation Dice over all folds; None where the budget left one of the two without a value."""
        best, default = self.best_attempt, self.default_objective
        if best is None or best.objective is None or default is None:
            return None
        from harness.statistics import TOLERANCE

        return best.objective > default + TOLERANCE


class SearchFailed(TrialFailed):
    """No configuration got a validation Dice: nothing was found. `folds` holds the searches of single folds."""

    def __init__(self, message: str, folds: Sequence[Fold] = ()) -> None:
        super().__init__(message)
        self.folds = list(folds)


@dataclass(frozen=True)
class SweepPlan:
    """A checked sweep, before anything runs."""

    config: RunConfig
    plan: Plan
    space: list[Parameter]
    method: dict[str, Any]
    epochs: int
    folder: Path

    @property
    def trials(self) -> list[TrialSpec]:
        return self.plan.trials

    def folds(self) -> dict[str, list[TrialSpec]]:
        """The default's trials of each fold: one for each seed."""
        found: dict[str, list[TrialSpec]] = {}
        for trial in self.trials:
            found.setdefault(trial.split.name, []).append(trial)
        return found


def plan_sweep(config: RunConfig, plan: Plan) -> SweepPlan:
    """Checks everything that can be checked before the first epoch.

    Args:
        plan: of one method.

    Raises:
        UserError: a method that learns nothing by epochs, a rule that looks at the test domain, a fault in the search space,
            a scheduler that does not fit.
    """
    from harness.methods.crossing import crossed

    sweep = config.sweep
    first = plan.trials[0]
    if first.method.trainer is not None:
        raise UserError(f"Method {first.method.name} {OWN_PROGRAM}: a sweep can't search it.")
    if first.trained.selection == "oracle":
        raise UserError(
            "training.selection=oracle looks at the test domain, which a search must not. Use training_domain_validation."
        )
    if missing := [trial for trial in plan.trials if not trial.split.validation]:
        raise UserError(
            f"Split {missing[0].split.name} has no validation images, by which a search decides. Give more images"
            " (data.max_per_domain)."
        )
    space = parse_space(sweep.parameters, sweep.sampler)
    if sweep.sampler != "grid":
        needed(sweep.budget.trials, sweep.sampler)
    if sweep.sampler == "optuna":
        check_optuna()
    if sweep.scheduler == "pbt":
        from harness.search.population import check_population

        check_population(sweep, space, first)
    check_methods(plan.trials)
    check_space(first, space)
    epochs = epochs_of(first)
    if epochs == 0:
        raise UserError(f"Method {first.method.name} {NO_EPOCHS}, so no epoch has a validation Dice to search by.")
    method = crossed(config.methods, config.algorithms)[first.method.name.removesuffix("@per_modality")]
    return SweepPlan(config, plan, space, method, epochs, _folder(config, plan, space))


def epochs_of(trial: TrialSpec) -> int:
    """How many epochs the bench trains a trial's method for: those of its stages together; 0 where it learns by none."""
    from harness.methods.adapter import MethodAdapter
    from harness.methods.building import build_method
    from harness.training.stages import epochs_per_stage

    if trial.method.trainer is not None:
        return 0
    built = build_method(trial.method.name, trial.method.model, trial.modalities, prompt=trial.method.prompt)
    return sum(epochs_per_stage(MethodAdapter(built).stages(), trial.trained.epochs))


def _folder(config: RunConfig, plan: Plan, space: Sequence[Parameter]) -> Path:
    """The same question has the same folder, whatever its budget: the same command goes on, and so does a larger one."""
    sweep = config.sweep
    asked = {
        "space": [asdict(parameter) for parameter in space],
        "sampler": sweep.sampler,
        "scheduler": [sweep.scheduler, asdict(sweep.asha), asdict(sweep.pbt)],
        "seed": sweep.seed,
        "trials": [trial.id for trial in plan.trials],
    }
    method = tuned_name(plan.trials[0].method.name).removesuffix("_tuned")
    return Path(config.store.root).expanduser().resolve() / "sweeps" / f"{sweep.name}-{method}-{sha256_json(asked)[:8]}"


@contextlib.contextmanager
def ray_for(trials: Sequence[TrialSpec], config: RunConfig, context: TrialContext) -> Iterator[Cluster]:
    """Ray as the executor starts it, for all searches that train these trials with other hyperparameters."""
    for key, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from harness.execution.ray.cluster import started_ray

    with started_ray(config.executor, context, trials) as cluster:
        yield cluster


def context_of(config: RunConfig, store: Store, command: Sequence[str]) -> TrialContext:
    return TrialContext(
        store_root=str(store.root),
        cache_folder=str(cache_folder(config)),
        predictions=config.store.predictions,
        keep_weights=config.store.keep_weights,
        checkpoint_seconds=config.store.checkpoint_seconds,
        command=tuple(command),
    )


def run_sweep(
    plan: SweepPlan, store: Store, command: Sequence[str], listener: SearchProgress, cluster: Cluster | None = None
) -> Outcome:
    """Runs all searches, tests the folds' choices and writes `search.json` and the chosen configuration.

    The folds' searches come first: they must not even be hastened by what the search over all folds, which has seen their
    test domains, already trained.

    Args:
        cluster: of `ray_for`, where several sweeps share it; None: one is started.

    Raises:
        UserError: the data or the store is at fault.
        SearchFailed: no configuration got a validation Dice.
    """
    config, folds, context = plan.config, plan.folds(), context_of(plan.config, store, command)
    with contextlib.nullcontext(cluster) if cluster else ray_for(plan.trials, config, context) as cluster:
        from harness.search.ray_search import Setting, placed

        setting = Setting(config.sweep, plan.space, context, plan.epochs, plan.folder)
        setting = placed(setting, cluster, config.executor, plan.trials)
        outcome = _outcome_of(plan, setting, command)
        shares = _shares(config, setting, len(folds))
        for name, trials in folds.items():
            search = _search(name, trials, setting, listener, next(shares))
            outcome.folds.append(Fold(name, list(trials[0].split.held_out), search))
        for fold in outcome.folds:
            _check_found(fold.search, outcome.folds, setting)
        if len(folds) == 1:
            # Its own fold is all there is.
            outcome.overall = outcome.folds[0].search
        else:
            outcome.overall = _search("all folds", plan.trials, setting, listener, next(shares))
            _check_found(outcome.overall, outcome.folds, setting)
        _test_choices(outcome, folds, setting, store)
    outcome.best = outcome.best_attempt.number if outcome.best_attempt else None
    outcome.made = now()
    if outcome.beats_default:
        outcome.tuned = _write_best(plan, outcome)
    atomic_write_json(plan.folder / "search.json", _json({"schema_version": SCHEMA_VERSION, **asdict(outcome)}))
    return outcome


def _outcome_of(plan: SweepPlan, setting: Setting, command: Sequence[str]) -> Outcome:
    config, sweep = plan.config, plan.config.sweep
    first = plan.trials[0]
    return Outcome(
        name=sweep.name,
        method=first.method.name,
        title=first.method.title,
        suite=config.name,
        data=first.data.name,
        command=list(command),
        sampler=sweep.sampler,
        scheduler=sweep.scheduler,
        seed=sweep.seed,
        budget=asdict(sweep.budget),
        space=[{**asdict(parameter), "shown": str(parameter)} for parameter in plan.space],
        epochs=plan.epochs,
        slots=setting.slots,
    )


def _shares(config: RunConfig, setting: Setting, folds: int) -> Iterator[tuple[float, float]]:
    """(seconds, GPU seconds) of each search: the search over all folds weighs as many as the folds' own together.

    Each takes its part of what those before it left.
    """
    budget, started = config.sweep.budget, time.monotonic()
    in_use = setting.gpus_in_use
    weights = [1] * folds + ([folds] if folds > 1 else [])
    for place, weight in enumerate(weights):
        part, spent = weight / sum(weights[place:]), time.monotonic() - started
        seconds = math.inf if budget.hours is None else part * max(0.0, budget.hours * 3600 - spent)
        gpu = math.inf if budget.gpu_hours is None else part * max(0.0, budget.gpu_hours * 3600 - spent * in_use)
        yield seconds, gpu


def _search(
    title: str, trials: list[TrialSpec], setting: Setting, listener: SearchProgress, share: tuple[float, float]
) -> Search:
    from harness.search.ray_search import run_search

    if setting.sweep.scheduler == "pbt":
        from harness.search.population import run_population as run
    else:
        run = run_search
    return run(title, trials, setting, listener, seconds=share[0], gpu_seconds=share[1])


def _check_found(search: Search, folds: Sequence[Fold], setting: Setting) -> None:
    """Raises SearchFailed where every configuration failed; the end of a budget is no failure."""
    if search.best is None and search.ended is None:
        raise SearchFailed(f"{nothing_found(search)} Their trials are kept in {setting.context.store_root}.", folds)


def nothing_found(search: Search) -> str:
    """Of a search in which every configuration failed: the sentence that says why."""
    reasons = list(dict.fromkeys(attempt.reason.rstrip(".") for attempt in search.attempts if attempt.reason))
    return f"None of {len(search.attempts)} configurations got a validation Dice ({search.title}): {'; '.join(reasons[:3])}."


def _test_choices(outcome: Outcome, folds: dict[str, list[TrialSpec]], setting: Setting, store: Store) -> None:
    """Only now are rows of test images read: nothing is decided any more."""
    tuned, default = [], []
    for fold in outcome.folds:
        trials, best = folds[fold.name], fold.search.best
        plain = tested_rows(store, trials)
        chosen = _rows_of(best, trials, setting, store) if best else None
        if best is None or plain is None or chosen is None:
            continue
        fold.choice = best.number
        fold.test_dice, fold.default_test_dice = mean_test_dice(chosen), mean_test_dice(plain)
        tuned.append(chosen)
        default.append(plain)
    if len(tuned) == len(outcome.folds):
        outcome.score = nested_score(tuned, default)


def _rows_of(
    attempt: ConfigurationResult, trials: Sequence[TrialSpec], setting: Setting, store: Store
) -> pd.DataFrame | None:
    if attempt.schedule is not None:
        from harness.search.population import tested_choice

        return tested_choice(attempt, trials[0].split.name, trials, setting)
    return tested_rows(store, [configured(trial, setting.space, attempt.values) for trial in trials])


def _write_best(plan: SweepPlan, outcome: Outcome) -> str:
    """The best configuration as a method's YAML; of a population, whose values changed, its schedule."""
    import yaml

    best = outcome.best_attempt
    assert best is not None
    trial = plan.trials[0]
    comments = [
        f"{outcome.title} as the sweep {outcome.name} found it on {outcome.data}, by validation images alone.",
        f"Validation Dice over {counted(len(outcome.folds), 'fold')}: {best.objective:.4f}; the default's: {outcome.default_objective:.4f}.",
        "For new data. Test scores of it on the folds it was searched on flatter: other folds validate on their domains."
        " The sweep's own report has scores that don't.",
    ]
    if best.schedule is not None:
        path = plan.folder / "schedule.yaml"
        segments = [{**each, "values": dict(each["values"])} for each in best.schedule]
        content = yaml.safe_dump(segments, sort_keys=False, width=120)
        atomic_write_text(path, "".join(f"# {line}\n" for line in comments) + content)
    else:
        path = plan.folder / "configs" / "method" / f"{tuned_name(trial.method.name)}.yaml"
        atomic_write_text(path, method_yaml(plan.method, trial, plan.space, best.values, comments))
    return str(path)


def _json(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return value
