"""One search over some folds: every configuration is one trial of Ray Tune's."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.search import Searcher

from harness.config import ExecutorConfig, SweepConfig
from harness.errors import UserError
from harness.execution.ray.cluster import Cluster
from harness.search.configurations import Values, configured, default_values
from harness.search.objective import evaluate_configuration
from harness.search.sampling import listed, needed, optuna_searcher
from harness.search.scheduling import Asha, Budget
from harness.search.space import Parameter
from harness.trial import TrialContext
from harness.trial_spec import TrialSpec


@dataclass(frozen=True)
class Setting:
    """What all searches of a sweep share.

    Attributes:
        epochs: of each trial.
        folder: the sweep's own, `<store>/sweeps/<name>`.
        resources: {CPU, GPU} of one configuration; slots: configurations at a time; retries: of one whose process died.
    """

    sweep: SweepConfig
    space: list[Parameter]
    context: TrialContext
    epochs: int
    folder: Path
    resources: dict[str, float] = field(default_factory=dict)
    slots: int = 1
    retries: int = 0

    @property
    def gpus_in_use(self) -> float:
        """While all slots are taken."""
        return self.resources.get("GPU", 0.0) * self.slots


@dataclass
class ConfigurationResult:
    """One configuration in one search.

    Attributes:
        state: done; stopped (early, by the scheduler); unfinished (the budget ended); failed.
        objective: mean validation Dice over the search's trials, of done ones only.
        dice: of each trial that ended.
        history: [epochs done over all folds, running mean of the validation Dice] after each epoch; NaN where not scored.
        schedule: of a member of a population: [{from_epoch, values}].
    """

    number: int
    values: Values
    state: str = "unfinished"
    objective: float | None = None
    dice: list[float] = field(default_factory=list)
    history: list[tuple[int, float]] = field(default_factory=list)
    reason: str | None = None
    schedule: list[dict[str, Any]] | None = None


@dataclass
class Search:
    """What came out of one search over `folds`. `ended` says why it ended early, if it did."""

    title: str
    folds: list[str]
    epochs: int
    attempts: list[ConfigurationResult]
    seconds: float
    ended: str | None = None

    @property
    def default(self) -> ConfigurationResult | None:
        return next((attempt for attempt in self.attempts if attempt.number == 0), None)

    @property
    def best(self) -> ConfigurationResult | None:
        """The configuration with the best objective, the first of equals."""
        done = [attempt for attempt in self.attempts if attempt.objective is not None]
        return max(done, key=lambda attempt: (attempt.objective, -attempt.number), default=None)


class SearchProgress:
    """Hears of every configuration that begins and ends, for example to print it."""

    def begin(self, search: str, total: int | None) -> None: ...

    def end(self, attempt: ConfigurationResult, epochs: int) -> None: ...


def run_search(
    title: str,
    trials: Sequence[TrialSpec],
    setting: Setting,
    listener: SearchProgress,
    *,
    seconds: float,
    gpu_seconds: float,
) -> Search:
    """Searches by the validation images of `trials` alone: the default method's trials of some folds.

    With one slot the same search gives the same decisions, undisturbed or not; with several, a scheduler or Optuna decides
    by who reports first.

    Raises:
        UserError: the data or the store is at fault.
    """
    sweep, started = setting.sweep, time.monotonic()
    default = default_values(trials[0], setting.space)
    epochs = setting.epochs * len(trials)
    asha = Asha(sweep.asha, epochs) if sweep.scheduler == "asha" else None
    budget = Budget(seconds, gpu_seconds, setting.gpus_in_use)
    tuning: dict[str, Any] = {"max_concurrent_trials": setting.slots, "reuse_actors": True, "scheduler": asha}
    if sweep.sampler == "optuna":
        total = needed(sweep.budget.trials, "optuna")
        tuning |= {"search_alg": optuna_searcher(setting.space, default, total, sweep.seed), "num_samples": total}
        space = {}
    else:
        chosen = listed(setting.space, default, sweep.sampler, sweep.budget.trials, sweep.seed)
        total = len(chosen)
        numbered = [{"number": number, "values": values} for number, values in enumerate(chosen)]
        space = {"configuration": tune.grid_search(numbered)}
    listener.begin(title, total)
    recorder = _Recorder(listener, epochs, budget)
    with _experiment(setting.folder) as (name, storage):
        tune.Tuner(
            _placed(_run_in_worker, trials, setting),
            param_space=space,
            tune_config=tune.TuneConfig(trial_dirname_creator=_short_name, **tuning),
            run_config=tune.RunConfig(
                name=name,
                storage_path=storage,
                verbose=0,
                callbacks=[recorder],
                stop=budget,
                failure_config=tune.FailureConfig(max_failures=setting.retries),
            ),
        ).fit()
    if recorder.user_error is not None:
        raise UserError(recorder.user_error)
    attempts = sorted(recorder.attempts.values(), key=lambda attempt: attempt.number)
    folds = [trial.split.name for trial in trials]
    return Search(title, folds, epochs, attempts, time.monotonic() - started, budget.reason)


def run_batches(
    batches: Iterator[Sequence[Any]], function: Any, setting: Setting, budget: Budget, trials: Sequence[TrialSpec]
) -> None:
    """Calls `function({"point": point}, trials=..., setting=...)` for each point in Ray Tune's workers.

    Args:
        batches: asked for the next one when all points of the one before have ended.

    Raises:
        UserError: whatever `batches` raises.
    """
    feed = _Batches(batches)
    with _experiment(setting.folder) as (name, storage):
        tune.Tuner(
            _placed(function, trials, setting),
            tune_config=tune.TuneConfig(
                search_alg=feed,
                num_samples=-1,
                max_concurrent_trials=setting.slots,
                reuse_actors=True,
                trial_dirname_creator=_short_name,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=storage,
                verbose=0,
                stop=budget,
                failure_config=tune.FailureConfig(max_failures=setting.retries),
            ),
        ).fit()
    if feed.error is not None:
        raise feed.error


class _Batches(Searcher):
    """Points in batches, through one experiment: its workers stay, with all that they imported."""

    def __init__(self, batches: Iterator[Sequence[Any]]) -> None:
        super().__init__(metric="done", mode="max")
        self.batches, self.waiting, self.running = batches, deque[Any](), 0
        self.error: UserError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Ray keeps a copy of its settings on the disk; batches that are yet to be made can't be copied."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        if not self.waiting and not self.running:
            try:
                self.waiting.extend(next(self.batches, ()))
            except UserError as error:
                # Ray would bury it in an error of its own.
                self.error = error
            if not self.waiting:
                return Searcher.FINISHED
        if not self.waiting:
            return None
        self.running += 1
        return {"point": self.waiting.popleft()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.running -= 1

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `run_population`."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""


def _placed(function: Any, trials: Sequence[TrialSpec], setting: Setting) -> Any:
    """The function with its arguments and the resources of one configuration."""
    return tune.with_resources(
        tune.with_parameters(function, trials=list(trials), setting=setting),
        tune.PlacementGroupFactory([setting.resources]),
    )


def placed(setting: Setting, cluster: Cluster, config: ExecutorConfig, trials: Sequence[TrialSpec]) -> Setting:
    """The setting with a configuration's resources. `executor=serial` means one configuration at a time here too."""
    slots = 1 if config.name == "serial" else max(1, cluster.slots(trials))
    return replace(setting, resources=cluster.resources(trials[0]), slots=slots, retries=config.retries)


@contextlib.contextmanager
def _experiment(folder: Path) -> Iterator[tuple[str, str]]:
    """A place for Ray's own bookkeeping, which is worth nothing afterwards."""
    place = folder / "ray"
    shutil.rmtree(place, ignore_errors=True)
    try:
        yield "experiment", str(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _run_in_worker(config: dict[str, Any], trials: list[TrialSpec], setting: Setting) -> None:
    """What Ray runs. Every report has the objective, which Ray insists on; the last one has no time: nobody decides on it."""
    values = config["configuration"]["values"]
    try:
        own = [configured(trial, setting.space, values) for trial in trials]
        end = evaluate_configuration(own, worker_context(setting.context), setting.epochs, setting.folder, tune.report)
    except UserError as error:
        end = {"state": "failed", "objective": math.nan, "dice": [], "reason": str(error), "user_error": True}
    tune.report({"end": end, "objective": end["objective"]})


def worker_context(context: TrialContext) -> TrialContext:
    """With the device of the resources that Ray gave."""
    gpus = tune.get_context().get_trial_resources().required_resources.get("GPU", 0)
    if gpus:
        from harness.execution.gpu_memory import take_share

        take_share(gpus)
    return replace(context, device="cuda" if gpus else "cpu")


class _Recorder(Callback):
    """Keeps what configurations report. Ray ends the whole search when a callback raises, so none does."""

    def __init__(self, listener: SearchProgress, epochs: int, budget: Budget) -> None:
        self.listener, self.epochs, self.budget = listener, epochs, budget
        self.attempts: dict[str, ConfigurationResult] = {}
        self.user_error: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        configuration = trial.config["configuration"]
        self.attempts.setdefault(
            trial.trial_id, ConfigurationResult(configuration["number"], dict(configuration["values"]))
        )

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        attempt = self.attempts[trial.trial_id]
        if end := result.get("end"):
            attempt.state, attempt.dice, attempt.reason = end["state"], list(end["dice"]), end["reason"]
            if math.isfinite(end["objective"]):
                attempt.objective = end["objective"]
            elif attempt.state == "done":
                attempt.state, attempt.reason = "failed", "its validation Dice is NaN"
            # What even the default meets is no fault of a configuration.
            if end.get("user_error") and attempt.number == 0:
                self.user_error = end["reason"]
        elif "time" in result:
            # A try after a crash tells everything again.
            attempt.history = [point for point in attempt.history if point[0] < result["time"]]
            attempt.history.append((result["time"], result["objective"]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        attempt = self.attempts.get(trial.trial_id)
        if attempt is not None:
            error = str(trial.get_error() or "").strip().splitlines()
            attempt.state, attempt.reason = "failed", f"its process died: {error[0] if error else 'killed'}"
            self._ended(trial)

    def _ended(self, trial: Any) -> None:
        attempt = self.attempts.get(trial.trial_id)
        if attempt is None:
            return
        if attempt.state == "unfinished" and self.budget.reason is None:
            attempt.state = "stopped"
        self.listener.end(attempt, self.epochs)


def _short_name(trial: Any) -> str:
    return str(trial.trial_id)
