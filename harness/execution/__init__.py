"""Where trials run: in this process, or by Ray on the cores and GPUs of a machine or cluster.

Owns progress, retries, the orderly stop, loggers of other tools (`trackers`), and measuring again what finished trials
lack; makes no plans.
"""

from __future__ import annotations

import os

from harness.config.schema import ExecutorConfig
from harness.execution.executor import Executor, Outcome
from harness.execution.ray.environment import RAY_ENVIRONMENT

__all__ = ["Executor", "Outcome", "make_executor"]


def make_executor(config: ExecutorConfig) -> Executor:
    """The executor of `config.name`; Ray is only imported where it is chosen."""
    if config.name == "serial":
        from harness.execution.serial import SerialExecutor

        return SerialExecutor(config)
    for key, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from harness.execution.ray.executor import RayTuneExecutor

    return RayTuneExecutor(config)
