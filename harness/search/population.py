"""Population based training (Jaderberg et al., arXiv 1711.09846): hyperparameters that change while models train.

All members train the same number of epochs on all folds, then the worst quantile copies a member of the best quantile, on
the same folds, and goes on with its learning rate and the like multiplied by 0.8 or 1.2. What is found is a schedule.

Ray's own PopulationBasedTraining decides by who reports first, and forgets its population when its driver dies. Here a
generation is one experiment of Ray Tune's, and what happens between two is drawn from (seed, generation, member): the
population is the same bit for bit, with any number of workers, undisturbed or not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ray import tune

from harness.config import SweepBudget, SweepConfig
from harness.errors import UserError
from harness.search.configurations import Values, configured, default_values
from harness.search.population_member import CHANGEABLE, Step, StepResult, evaluate_member, read_step_result, take_step
from harness.search.ray_search import (
    ConfigurationResult,
    Search,
    SearchProgress,
    Setting,
    run_batches,
    run_search,
    worker_context,
)
from harness.search.sampling import listed
from harness.search.scheduling import Budget
from harness.search.space import Parameter
from harness.trial_spec import TrialSpec

if TYPE_CHECKING:
    import pandas as pd

FACTORS = (0.8, 1.2)


@dataclass
class _Member:
    """Where a member is. `schedule` is that of the weights it has now, its ancestors' part included."""

    number: int
    values: Values
    before: Values
    folder: Path | None = None
    schedule: list[dict[str, Any]] = field(default_factory=list)
    result: StepResult | None = None

    @property
    def objective(self) -> float:
        return self.result.objective if self.result else math.nan


def check_population(sweep: SweepConfig, space: Sequence[Parameter], trial: TrialSpec) -> None:
    """
    Raises:
        UserError: a parameter that can't change while a model trains, a sampler that proposes, training that ends early.
    """
    for parameter in space:
        *_, branch, last = parameter.key.split(".")
        if branch != "training" or last not in CHANGEABLE or parameter.kind == "int":
            raise UserError(
                f"sweep.scheduler=pbt changes parameters while models train; {parameter.key} can't be changed then. Expected"
                f" some of training.{', training.'.join(CHANGEABLE)}; search others with sweep.scheduler=asha."
            )
    if sweep.sampler != "random":
        raise UserError(
            f"sweep.scheduler=pbt starts from random configurations: expected sweep.sampler=random, found {sweep.sampler}."
        )
    if trial.trained.patience is not None:
        raise UserError("sweep.scheduler=pbt trains every member to its end: expected training.patience=null.")


def run_population(
    title: str,
    trials: Sequence[TrialSpec],
    setting: Setting,
    listener: SearchProgress,
    *,
    seconds: float,
    gpu_seconds: float,
) -> Search:
    """As `run_search`. ConfigurationResult 0 is the default, trained as ever; the members' numbers start at 1, the first from the default."""
    started, sweep = time.monotonic(), setting.sweep
    alone = replace(sweep, scheduler="none", sampler="random", budget=SweepBudget(trials=1))
    search = run_search(
        f"{title}, the default",
        trials,
        replace(setting, sweep=alone),
        listener,
        seconds=seconds,
        gpu_seconds=gpu_seconds,
    )
    spent = time.monotonic() - started
    budget = Budget(seconds - spent, gpu_seconds - spent * setting.gpus_in_use, setting.gpus_in_use)
    default = default_values(trials[0], setting.space)
    chosen = listed(setting.space, default, "random", sweep.budget.trials, sweep.seed)
    members = [_Member(number, values, values) for number, values in enumerate(chosen, 1)]
    listener.begin(title, len(members))
    run_batches(_generations(members, title, trials, setting, budget), _step_in_worker, setting, budget, trials)
    finished = members[0].schedule[-1:] != [] and members[0].schedule[-1]["to_epoch"] == setting.epochs
    for member in members:
        attempt = _attempt(member, len(trials), finished)
        search.attempts.append(attempt)
        listener.end(attempt, search.epochs)
    return replace(search, title=title, seconds=time.monotonic() - started, ended=search.ended or budget.reason)


def _generations(
    members: list[_Member], title: str, trials: Sequence[TrialSpec], setting: Setting, budget: Budget
) -> Iterator[list[Step]]:
    """The steps of each generation that are not done; advances `members` when they are, and ends with the budget.

    Raises:
        UserError: members died in their process.
    """
    interval = setting.sweep.pbt.interval_epochs
    ends = [*range(interval, setting.epochs, interval), setting.epochs]
    for generation, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if generation:
            _exploit(members, setting, generation)
        place = _place(setting, title) / f"generation{generation}"
        steps = [
            Step(each.number, place / f"member{each.number}", each.folder, each.before, each.values, begin, end)
            for each in members
        ]
        if missing := [step for step in steps if read_step_result(step) is None]:
            if budget.stop_all():
                return
            yield missing
        result = [read_step_result(step) for step in steps]
        if None in result:
            if budget.reason is not None:
                return
            raise UserError(
                f"{result.count(None)} members of the population died in their process (killed, or out of memory). The same"
                " command goes on from their last generation."
            )
        for member, step, answer in zip(members, steps, result, strict=True):
            member.result, member.folder, member.before = answer, step.folder, step.values
            member.schedule = [*member.schedule, {"from_epoch": begin + 1, "to_epoch": end, "values": step.values}]
        # The states that nobody goes on from any more.
        for state in _place(setting, title).glob(f"generation{generation - 1}/*/*/training.pt"):
            state.unlink()


def _exploit(members: list[_Member], setting: Setting, generation: int) -> None:
    """The worst copy of the best, and explore from there; who failed is among the worst."""
    ranked = sorted(members, key=lambda member: (-_or_lowest(member.objective), member.number))
    alive = [member for member in ranked if math.isfinite(member.objective)]
    if not alive:
        return
    count = min(max(1, math.ceil(len(members) * setting.sweep.pbt.quantile)), len(members) // 2, len(alive))
    worst = {member.number for member in [*ranked[-count:], *(each for each in ranked if each not in alive)]}
    # As they are before anyone copies.
    best = [replace(member) for member in alive[:count]]
    for member in members:
        if member.number in worst - {each.number for each in best}:
            random = np.random.default_rng([setting.sweep.seed, 1, generation, member.number])
            model = best[int(random.integers(len(best)))]
            member.folder, member.before, member.schedule = model.folder, model.before, model.schedule
            member.values = {each.key: _perturbed(each, model.values[each.key], random) for each in setting.space}


def _perturbed(parameter: Parameter, value: Any, random: np.random.Generator) -> Any:
    """A number times 0.8 or 1.2, kept inside the space; of a list a neighbour."""
    up = int(random.integers(2))
    if not parameter.is_list:
        return parameter.clipped(value * FACTORS[up])
    place = parameter.values.index(value) if value in parameter.values else 0
    return parameter.values[min(max(place + (1 if up else -1), 0), len(parameter.values) - 1)]


def _attempt(member: _Member, trials: int, finished: bool) -> ConfigurationResult:
    result = member.result
    if result is None:
        return ConfigurationResult(member.number, member.values, schedule=member.schedule)
    history = [
        ((epoch + 1) * trials, sum(curve[epoch] for curve in result.curves) / trials)
        for epoch in range(min(map(len, result.curves), default=0))
        if len(result.curves) == trials
    ]
    values = member.schedule[-1]["values"]
    attempt = ConfigurationResult(
        member.number, values, "unfinished", None, result.dice, history, result.reason, member.schedule
    )
    if result.reason is not None or (finished and not math.isfinite(result.objective)):
        attempt.state, attempt.reason = "failed", result.reason or "its validation Dice is NaN"
    elif finished:
        attempt.state, attempt.objective = "done", result.objective
    return attempt


def tested_choice(
    attempt: ConfigurationResult, title: str, trials: Sequence[TrialSpec], setting: Setting
) -> pd.DataFrame:
    """Rows of the test images of a finished member's trials."""
    import pandas as pd

    generations = _place(setting, title).glob(f"generation*/member{attempt.number}")
    folder = max(generations, key=lambda path: int(path.parent.name.removeprefix("generation")))
    path = folder / "tested.parquet"
    if not path.exists():
        budget = Budget(math.inf, math.inf, 0.0)
        run_batches(iter([[folder]]), _test_in_worker, setting, budget, trials)
    return pd.read_parquet(path)


def _place(setting: Setting, title: str) -> Path:
    return setting.folder / "population" / title.replace(" ", "_")


def _step_in_worker(config: dict[str, Any], trials: list[TrialSpec], setting: Setting) -> None:
    step: Step = config["point"]
    own = [configured(trial, setting.space, step.values) for trial in trials]
    take_step(step, own, worker_context(setting.context))
    tune.report({"done": 1})


def _test_in_worker(config: dict[str, Any], trials: list[TrialSpec], setting: Setting) -> None:
    evaluate_member(config["point"], trials, worker_context(setting.context))
    tune.report({"done": 1})


def _or_lowest(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
