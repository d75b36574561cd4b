"""A run of several methods, each with the hyperparameters that nested searches of its own chose.

Every method is searched by itself, as a sweep of one method is, with the first of the run's seeds. What the search of a fold
chose, by that fold's training and validation images alone, is then trained and tested on that fold with every seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.config import RunConfig
from harness.errors import UserError
from harness.files import sha256_json
from harness.planning.checks import check_methods
from harness.planning.plan import Plan
from harness.search.configurations import configured
from harness.search.sweep import (
    NO_EPOCHS,
    OWN_PROGRAM,
    Fold,
    Outcome,
    SearchFailed,
    SweepPlan,
    context_of,
    epochs_of,
    nothing_found,
    plan_sweep,
    ray_for,
    run_sweep,
)
from harness.store.records import SearchChoice, TrialEntry
from harness.store.store import Store
from harness.trial_spec import TrialIds, TrialSpec

if TYPE_CHECKING:
    from harness.search.ray_search import ConfigurationResult, SearchProgress

Choices = dict[str, dict[str, SearchChoice]]
"""Method -> fold -> what its search chose."""


@dataclass(frozen=True)
class TunedRunPlan:
    """A checked tuned run, before anything is searched.

    Attributes:
        plan: of the run with the methods as they are; its name ends in `_tuned`.
        sweeps: the search of each method that is searched.
        untuned: the other methods, each with the reason.
    """

    plan: Plan
    sweeps: dict[str, SweepPlan]
    untuned: dict[str, str]


def plan_tuned_run(config: RunConfig, plan: Plan) -> TunedRunPlan:
    """Checks all methods and their searches before the first epoch.

    Raises:
        UserError: no method can be searched, what `plan_sweep` refuses, or a word that only `run` follows.
    """
    if config.reuse != "missing" or config.costs_only:
        raise UserError(
            "reuse=... and costs_only=... are for `run`: a sweep always keeps what is trained, and goes on."
        )
    if config.sweep.scheduler == "pbt":
        raise UserError(
            "sweep.scheduler=pbt changes hyperparameters while it trains, so what it finds is no trial of a run. For several"
            " methods use sweep.scheduler=none or asha; or search one method: method=NAME."
        )
    firsts = {trial.method.name: trial for trial in reversed(plan.trials)}
    reasons = {name: _why_untuned(trial) for name, trial in reversed(firsts.items())}
    untuned = {name: why for name, why in reasons.items() if why}
    if len(untuned) == len(reasons):
        listed = "; ".join(f"{name} {why}" for name, why in untuned.items())
        raise UserError(f"Expected at least one method that a sweep can search, found none: {listed}.")
    check_methods([trial for trial in plan.trials if trial.method.name in untuned])
    sweeps = {name: _sweep_of(name, config, plan) for name in reasons if name not in untuned}
    named = replace(config, name=f"{config.name}_tuned")
    return TunedRunPlan(replace(plan, config=named), sweeps, untuned)


def _why_untuned(trial: TrialSpec) -> str:
    if trial.method.trainer is not None:
        return OWN_PROGRAM
    return "" if epochs_of(trial) else NO_EPOCHS


def _sweep_of(name: str, config: RunConfig, plan: Plan) -> SweepPlan:
    """The searches of one method, with the first seed."""
    own = [trial for trial in plan.trials if trial.method.name == name and trial.seed == config.seeds[0]]
    return plan_sweep(config, replace(plan, trials=own))


def search_all(
    tuned: TunedRunPlan,
    store: Store,
    command: Sequence[str],
    listener: SearchProgress,
    begin: Callable[[SweepPlan], None],
    end: Callable[[SweepPlan, Outcome | None], None],
) -> Choices:
    """Searches one method after the other; what an earlier call trained is not trained again.

    A fold whose search failed or was ended by its budget chooses nothing, and the others go on.

    Args:
        begin, end: called with the search of each method; `end` gets no outcome where a search found nothing.

    Raises:
        UserError: the data or the store is at fault.
    """
    config, choices = tuned.plan.config, Choices()
    trials = [trial for sweep in tuned.sweeps.values() for trial in sweep.trials]
    with ray_for(trials, config, context_of(config, store, command)) as cluster:
        for name, sweep in tuned.sweeps.items():
            begin(sweep)
            outcome: Outcome | None = None
            try:
                outcome = run_sweep(sweep, store, command, listener, cluster)
                folds = outcome.folds
            except SearchFailed as error:
                folds = error.folds
            choices[name] = {fold.name: choice_of(fold) for fold in folds}
            end(sweep, outcome)
    return choices


def choice_of(fold: Fold) -> SearchChoice:
    """What a fold's search chose; nothing where its budget ended before all configurations did."""
    search, best = fold.search, fold.search.best
    failed = sum(attempt.state == "failed" for attempt in search.attempts)
    nothing = SearchChoice({}, len(search.attempts), failed)
    if search.ended is not None:
        return replace(
            nothing,
            missing=f"The search of this fold is incomplete: {search.ended}. The same command with a larger budget goes on.",
        )
    if best is None:
        return replace(nothing, missing=f"The search of this fold failed. {nothing_found(search)}")
    return replace(nothing, values=dict(best.values), dice=best.objective, at_edge=_at_edge(best, search.attempts))


def _at_edge(best: ConfigurationResult, attempts: Sequence[ConfigurationResult]) -> tuple[str, ...]:
    def tried(key: str) -> set[Any]:
        return {attempt.values[key] for attempt in attempts}

    return tuple(
        key
        for key, value in best.values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and len(tried(key)) > 1
        and value in (min(tried(key)), max(tried(key)))
    )  # fmt: skip


def tuned_trials(tuned: TunedRunPlan, choices: Choices) -> tuple[Plan, list[TrialEntry]]:
    """The plan of the run, and its trials as `trials.json` lists them: those without a choice are in the list alone."""
    trials, entries = [], []
    for trial, choice in _with_choices(tuned.plan.trials, choices):
        if choice is not None and choice.missing:
            entries.append(replace(TrialEntry.of(trial), ids=_no_trial(trial), search=choice))
            continue
        chosen = trial
        if choice is not None:
            changed = configured(trial, tuned.sweeps[trial.method.name].space, choice.values)
            # The row is the method's own: `<method>_tuned` is what a search over all folds found.
            chosen = replace(changed, method=replace(changed.method, name=trial.method.name))
        trials.append(chosen)
        entries.append(replace(TrialEntry.of(chosen), search=choice))
    return replace(tuned.plan, trials=trials), entries


def _with_choices(trials: Sequence[TrialSpec], choices: Choices) -> Iterator[tuple[TrialSpec, SearchChoice | None]]:
    for trial in trials:
        yield trial, choices[trial.method.name][trial.split.name] if trial.method.name in choices else None


def _no_trial(trial: TrialSpec) -> TrialIds:
    """Ids that no trial has: the method's own trial stands for another learning rate than the one that is missing."""
    return TrialIds(*[sha256_json({"nothing chosen": trial.ids.measurement})] * 3)
