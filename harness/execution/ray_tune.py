"""Ray Tune as executor and scheduler: one Tune trial for each of ours.

The store, not Ray, is the database: a Tune trial is told only an id, reads its spec from the store, and writes its result
there. After a crash the same command makes a new experiment of what the store lacks.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import ray
from ray import tune
from ray.tune import Callback

from harness.config import ExecutorConfig
from harness.errors import UserError
from harness.execution import RAY_ENVIRONMENT, Outcome
from harness.execution.progress import ProgressDisplay
from harness.store import Store
from harness.suite import Trial
from harness.trial import TrialContext


class RayTuneExecutor:
    """Runs as many trials at a time as the CPUs (and GPUs) allow, on this machine or on a cluster that is joined."""

    def __init__(self, config: ExecutorConfig) -> None:
        self.config = config

    def run(self, trials: Sequence[Trial], context: TrialContext, progress: ProgressDisplay) -> list[Outcome]:
        self._start_ray()
        try:
            store = Store(context.store_root)
            for trial in trials:
                _hand_over(store, trial)
            gpus = self._gpus_per_trial()
            cpus = self._cpus_per_trial(trials)
            callback = _ProgressCallback(progress, store, {trial.id: trial.label for trial in trials})
            experiment = store.root / "ray"
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(_run_in_worker, context=asdict(context)), {"cpu": cpus, "gpu": gpus}
                ),
                param_space={"trial_id": tune.grid_search([trial.id for trial in trials])},
                tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=_short_name),
                run_config=tune.RunConfig(
                    name="experiment", storage_path=str(experiment), verbose=0, callbacks=[callback]
                ),
            )
            tuner.fit()
            # Ray's own bookkeeping is worth nothing once every trial is in the store.
            shutil.rmtree(experiment, ignore_errors=True)
            if callback.user_errors:
                raise UserError(callback.user_errors[0])
            return [_outcome(trial, store, callback.failures) for trial in trials]
        finally:
            ray.shutdown()

    def _start_ray(self) -> None:
        # Failures are told by our own display, once and with their cause.
        for name in ("ray", "ray.tune", "ray.tune.tune"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if self.config.address is None:
            options["include_dashboard"] = False
        else:
            options["address"] = self.config.address
        try:
            ray.init(**options, runtime_env={"env_vars": RAY_ENVIRONMENT})
        except ConnectionError as error:
            raise UserError(
                f"No Ray cluster answers at executor.address={self.config.address}: {error}"
                " Start one with `ray start --head`, or leave executor.address out for a local one."
            ) from error

    def _gpus_per_trial(self) -> float:
        available = ray.cluster_resources().get("GPU", 0)
        if self.config.device == "cuda" and not available:
            raise UserError("executor.device=cuda, but Ray finds no GPU. Use executor.device=auto or cpu.")
        if self.config.device == "cuda" and self.config.gpus_per_trial == 0:
            raise UserError("executor.device=cuda needs executor.gpus_per_trial above 0, for example 0.5.")
        return self.config.gpus_per_trial if available and self.config.device != "cpu" else 0.0

    def _cpus_per_trial(self, trials: Sequence[Trial]) -> int:
        """The threads a trial computes with, but no more than a node has: such a trial would wait for ever."""
        wanted = max(int(trial.spec["training"]["cpu_threads"]) for trial in trials)
        largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        return max(1, min(wanted, largest))


def _hand_over(store: Store, trial: Trial) -> None:
    """Leaves the spec where the worker reads it; not while a worker of a killed driver still holds the trial."""
    with store.trial_lock(trial.id):
        if store.result(trial.id) is None:
            store.set_damaged_aside(trial.id)
            store.start_trial(trial.id, trial.spec)


def _run_in_worker(config: dict[str, Any], context: dict[str, Any]) -> None:
    """What Ray runs: reads the spec of `config["trial_id"]` from the store and runs it on the resources it was given."""
    from harness.trial import run_trial

    trial_id = config["trial_id"]
    resources = tune.get_context().get_trial_resources().required_resources
    settings = TrialContext(**{**context, "device": "cuda" if resources.get("GPU", 0) > 0 else "cpu"})
    spec = Store(settings.store_root).spec(trial_id)
    final: dict[str, Any]
    try:
        status = run_trial(trial_id, spec, settings, lambda event: tune.report({"event": event, "trial_id": trial_id}))
        final = {"state": status["state"], "reason": status["reason"]}
    except UserError as error:
        final = {"state": "failed", "reason": str(error), "user_error": True}
    tune.report({"end": final, "trial_id": trial_id})


class _ProgressCallback(Callback):
    """Passes what trials report to the display. Ray ends the whole run when a callback raises, so none does."""

    def __init__(self, progress: ProgressDisplay, store: Store, labels: dict[str, str]) -> None:
        self.progress, self.store, self.labels = progress, store, labels
        self.failures: dict[str, str] = {}
        self.user_errors: list[str] = []

    def __getstate__(self) -> dict[str, Any]:
        """Ray keeps a copy of its settings on the disk; a display can't be copied, and nobody restores ours."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trial_id = trial.config["trial_id"]
        self.progress.start(trial_id, self.labels[trial_id])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        trial_id = trial.config["trial_id"]
        if result.get("event"):
            self.progress.update(trial_id, result["event"])
        if result.get("end"):
            final = result["end"]
            self.progress.end(trial_id, final["state"], final["reason"])
            if final.get("user_error"):
                self.user_errors.append(final["reason"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trial_id = trial.config["trial_id"]
        reason = f"{_cause(trial)}; the same command goes on from its last checkpoint"
        self.failures[trial_id] = reason
        with contextlib.suppress(UserError, OSError):  # for example a full disk
            self.store.write_status(trial_id, "failed", reason=reason)
        self.progress.end(trial_id, "failed", reason)


def _cause(trial: Any) -> str:
    """Why Ray gave a trial up: `run_trial` keeps causes of its own, so this is about processes."""
    error = trial.get_error()
    text = str(error).strip().splitlines() if error else []
    return f"its process died: {text[0]}" if text else "its process died (killed, or out of memory)"


def _outcome(trial: Trial, store: Store, failures: dict[str, str]) -> Outcome:
    if store.result(trial.id) is not None:
        return Outcome(trial, "done", None)
    reason = failures.get(trial.id) or store.status(trial.id).get("reason") or "it ended without a result"
    return Outcome(trial, "failed", str(reason))


def _short_name(trial: Any) -> str:
    return str(trial.config["trial_id"])[:16]
