"""Ray Tune as executor and scheduler: one Tune trial for each of ours.

The store, not Ray, is the database: a Tune trial gets only an id, reads its spec from the store, and writes its result
there. After a crash the same command makes a new experiment of what the store lacks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

from ray import tune

from harness.config import ExecutorConfig
from harness.errors import StopExpired
from harness.execution.executor import Outcome
from harness.execution.graceful_stop import GracefulStop
from harness.execution.progress import ProgressDisplay
from harness.execution.ray.callbacks import RunCallback
from harness.execution.ray.cluster import Cluster, started_ray
from harness.execution.ray.trial_queue import TrialQueue
from harness.execution.ray.watchdog import RayIsGone
from harness.execution.ray.worker import run_in_worker
from harness.store.store import Store
from harness.trial import TrialContext
from harness.trial_spec import TrialSpec

# Actors that Tune asks Ray for ahead of time.
_MOST_PENDING = 200


class RayTuneExecutor:
    """Runs as many trials at a time as the CPUs (and GPUs) allow, on this machine or on a cluster that is joined.

    Args:
        trainable: what runs a trial, as a dotted path to a function with the signature of `run_trial`: simulations of many
            trials bring their own.
    """

    def __init__(self, config: ExecutorConfig, trainable: str = "harness.trial.run_trial") -> None:
        self.config, self.trainable = config, trainable

    def run(self, trials: Sequence[TrialSpec], context: TrialContext, progress: ProgressDisplay) -> list[Outcome]:
        store, stop = Store(context.store_root), GracefulStop(self.config.drain_seconds)
        with started_ray(self.config, context, trials) as cluster:
            queue = TrialQueue(trials, store, cluster.resources)
            listener = RunCallback(progress, store, queue, stop, cluster, {trial.id: trial for trial in trials})
            # Here and not before: Ray puts a handler of its own in place when it starts.
            try:
                # Ray prints page by page what befalls its servers; our display reports causes, once.
                with stop.on_sigterm(), Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                    self._tune(queue, listener, cluster, context, trials)
            except StopExpired:
                pass
            except RayIsGone as gone:
                listener.lost(str(gone))
        if error := queue.error or listener.user_error:
            raise error
        return [_outcome(trial, store, listener, stop) for trial in trials]

    def _tune(
        self,
        queue: TrialQueue,
        listener: RunCallback,
        cluster: Cluster,
        context: TrialContext,
        trials: Sequence[TrialSpec],
    ) -> None:
        # Ray's own bookkeeping is worth nothing: neither that of a killed run, nor ours once every trial is in the store.
        experiment = queue.store.root / "ray"
        shutil.rmtree(experiment, ignore_errors=True)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(min(cluster.slots(trials), _MOST_PENDING))
        function = tune.with_parameters(
            run_in_worker,
            context=asdict(context),
            question=cluster.question,
            stop_key=listener.stop_key,
            function=self.trainable,
        )
        try:
            tune.Tuner(
                tune.with_resources(function, lambda config: tune.PlacementGroupFactory([config["resources"]])),
                tune_config=tune.TuneConfig(
                    search_alg=queue, num_samples=len(trials), reuse_actors=True, trial_dirname_creator=_short_name
                ),
                run_config=tune.RunConfig(
                    name=f"experiment-{uuid4().hex[:8]}",
                    storage_path=str(experiment),
                    verbose=0,
                    callbacks=[listener],
                    failure_config=tune.FailureConfig(max_failures=self.config.retries),
                ),
            ).fit()
        finally:
            shutil.rmtree(experiment, ignore_errors=True)


def _outcome(trial: TrialSpec, store: Store, listener: RunCallback, stop: GracefulStop) -> Outcome:
    if store.result(trial.ids) is not None:
        return Outcome(trial, "done", None)
    if trial.id in listener.failures:
        return Outcome(trial, "failed", listener.failures[trial.id])
    if stop.asked.is_set():
        return Outcome(trial, "interrupted", "stopped before its end")
    return Outcome(trial, "failed", "it ended without a result")


def _short_name(trial: Any) -> str:
    return str(trial.config["trial_id"])[:16]
