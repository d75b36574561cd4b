"""Executors: they run trials somewhere and know nothing of metrics or suites."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.config import ExecutorConfig
from harness.trial import TrialContext

if TYPE_CHECKING:
    from harness.execution.progress import ProgressDisplay
    from harness.trial_spec import TrialSpec


# Read by Ray while it is imported or started.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "RAY_METRICS_EXPORT_INTERVAL_MS": "0",
    # Ray's workers give way to everything else by default; trials are what this machine is for.
    "RAY_worker_niceness": "0",
    # The store is the database: snapshots of the experiment would grow with every trial, and nobody reads them.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # Ctrl-C reaches us, who promise what it does.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A relative path means the same in a trial as in the driver.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `state` is done, failed or interrupted (by SIGTERM), `reason` the cause of what is not done."""

    trial: TrialSpec
    state: str
    reason: str | None


class Executor(Protocol):
    """Runs trials; results go to the store, never through here.

    Raises:
        UserError: data or store at fault, so that going on makes no sense.
    """

    def run(self, trials: Sequence[TrialSpec], context: TrialContext, progress: ProgressDisplay) -> list[Outcome]: ...


def make_executor(config: ExecutorConfig) -> Executor:
    """The executor of `config.name`; Ray is only imported where it is chosen."""
    if config.name == "serial":
        from harness.execution.serial import SerialExecutor

        return SerialExecutor(config)
    for key, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from harness.execution.ray.executor import RayTuneExecutor

    return RayTuneExecutor(config)
