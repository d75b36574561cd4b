"""What the driver does while Ray Tune runs: shows progress, keeps causes, passes a request to stop on, misses dead nodes."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.experimental import internal_kv
from ray.tune import Callback

from harness.errors import StopExpired, UserError
from harness.execution.graceful_stop import GracefulStop
from harness.execution.progress import ProgressDisplay
from harness.execution.ray.cluster import Cluster
from harness.execution.ray.trial_queue import TrialQueue
from harness.execution.ray.trial_resources import Node, fitting
from harness.execution.ray.watchdog import RayIsGone, dead_server
from harness.store.store import Store
from harness.training.epoch_result import EpochResult
from harness.trial_spec import TrialSpec


class RunCallback(Callback):
    """Ray Tune's callback. Ray ends the whole run when one raises, so none does but to end the run.

    Attributes:
        failures: id -> cause of each trial that failed in this run.
        stop_key: where workers read in Ray's key-value store that they should stop.
        user_error: what is at fault with data or store, as the first trial that met it reported it.
    """

    LOOK_EVERY_SECONDS = 2.0
    # A cluster may bring another node.
    NODES_PATIENCE_SECONDS = 300.0

    def __init__(
        self,
        progress: ProgressDisplay,
        store: Store,
        queue: TrialQueue,
        stop: GracefulStop,
        cluster: Cluster,
        trials: dict[str, TrialSpec],
    ) -> None:
        self.progress, self.store, self.queue, self.stop = progress, store, queue, stop
        self.cluster, self.trials = cluster, trials
        self.failures: dict[str, str] = {}
        self.running: set[str] = set()
        self.user_error: UserError | None = None
        self.stop_key = f"delightsam-bench-stop-{uuid4().hex}"
        self.asked_to_stop = False
        self.last_look = self.last_capacity = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Ray keeps a copy of its settings on the disk; a display can't be copied, and nobody restores ours."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if (name := dead_server(self.cluster.servers)) is not None:
            raise RayIsGone(f"Ray itself died (its {name} was killed)")
        if self.stop.asked.is_set() and not self.asked_to_stop:
            self.asked_to_stop = True
            self.queue.close()
            internal_kv._internal_kv_put(self.stop_key, b"stop")
        if self.stop.expired or (self.asked_to_stop and not self.running):
            raise StopExpired
        if time.monotonic() - self.last_look >= self.LOOK_EVERY_SECONDS:
            self._look_for_nodes()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trial_id = trial.config["trial_id"]
        self.running.add(trial_id)
        self.progress.start(trial_id, self.trials[trial_id].label)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        trial_id = trial.config["trial_id"]
        if result["phase"] != "ended":
            epoch = EpochResult.from_json(result) if result["phase"] == "training" else None
            self.progress.update(trial_id, epoch)
            return
        if trial_id not in self.running:
            return  # reported twice: Tune repeats a trial's last result
        self.running.discard(trial_id)
        self.progress.end(trial_id, result["state"], result["reason"])
        if result["state"] == "failed":
            self.failures[trial_id] = result["reason"]
        if result.get("user_error"):
            # Other trials would meet the same.
            self.user_error = self.user_error or UserError(result["reason"])
            self.queue.close()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Lets go of the running means that Tune keeps of every number: most of what an ended trial costs in memory."""
        trial.metric_analysis.clear()
        trial.metric_n_steps.clear()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trial_id = trial.config["trial_id"]
        self.running.discard(trial_id)
        cause = cause_of(_error_of(trial))
        self._note_attempt(trial_id, cause)
        self.progress.again(trial_id, cause)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trial_id = trial.config["trial_id"]
        self.running.discard(trial_id)
        cause = cause_of(_error_of(trial))
        self._note_attempt(trial_id, cause)
        attempts = trial.num_failures
        reason = f"{cause}{f' ({attempts} attempts)' if attempts > 1 else ''}; the same command goes on from its last checkpoint"
        self._fail(trial_id, reason)

    def lost(self, cause: str) -> None:
        """All trials that are not done have failed, as Ray itself has."""
        for trial_id in self.running:
            self._note_attempt(trial_id, cause)
        for trial_id in set(self.trials) - set(self.failures):
            if self.store.result(self.trials[trial_id].ids) is None:
                self._fail(trial_id, f"{cause}; the same command goes on from its last checkpoint")

    def _fail(self, trial_id: str, reason: str) -> None:
        self.failures[trial_id] = reason
        if (self.store.trial_folder(trial_id) / "spec.json").exists():  # else it never began
            with contextlib.suppress(UserError, OSError):  # for example a full disk
                self.store.write_status(trial_id, "failed", reason=reason)
        self.progress.end(trial_id, "failed", reason)

    def _note_attempt(self, trial_id: str, cause: str) -> None:
        with contextlib.suppress(UserError, OSError):
            self.store.record_attempt(trial_id, cause)

    def _look_for_nodes(self) -> None:
        self.last_look = now = time.monotonic()
        nodes = [Node.of(node) for node in ray.nodes() if node["Alive"]]
        if fitting(nodes, min(self.cluster.cpus.values()), self.cluster.gpus):
            self.last_capacity = now
        elif now - self.last_capacity > self.NODES_PATIENCE_SECONDS:
            raise RayIsGone("no node that can run a trial is left in the cluster")


def _error_of(trial: Any) -> str:
    """What Tune wrote down of a try's error. `trial.get_error()` looks where Tune puts it only at the experiment's end."""
    try:
        # "Failure # 2 (occurred at ...)", then the error; one after the other.
        return Path(trial.error_file).read_text("utf-8").rpartition("Failure # ")[2].partition("\n")[2]
    except OSError:
        return ""


def cause_of(error: str) -> str:
    """Why Ray gave a try up: `run_trial` keeps causes of its own, so this is about processes, nodes and GPUs."""
    text = " ".join(error.split())
    if "GpuBusy" in text:
        return text[text.rindex("GpuBusy: ") + len("GpuBusy: ") :]
    if "running low on memory" in text or "OutOfMemory" in text:
        return "its process was killed because its node ran out of memory"
    if "node has died" in text or "node was terminated" in text or "NodeDied" in text:
        return "its node was lost"
    return f"its process died: {text[:300]}" if text else "its process died (killed, or out of memory)"
