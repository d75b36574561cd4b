"""Which configurations are stopped early, and when a whole search ends."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Stopper
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from harness.config import AshaConfig


class Asha(ASHAScheduler):
    """ASHA (Li et al., MLSys 2020) by the epochs done over all folds.

    Every configuration goes through folds and epochs in the same order, so at equal times like is compared with like. The
    default is a yardstick: compared with, never stopped. In its last epoch nothing is left to save, so none is stopped there.
    """

    def __init__(self, config: AshaConfig, epochs: int) -> None:
        """
        Args:
            epochs: of one configuration over all folds.
        """
        self.epochs = epochs
        super().__init__(
            time_attr="time",
            metric="objective",
            mode="max",
            # One more than there are: a configuration that reaches its end ends by itself, after its test.
            max_t=epochs + 1,
            grace_period=min(config.grace_epochs, epochs),
            reduction_factor=config.reduction_factor,
        )

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        action = super().on_trial_result(tune_controller, trial, result)
        spared = trial.config["configuration"]["number"] == 0 or result.get("time", 0) >= self.epochs
        return TrialScheduler.CONTINUE if spared else action


class Budget(Stopper):
    """Ends a search when its hours or GPU hours are used up; what was trained until then is kept."""

    def __init__(self, seconds: float, gpu_seconds: float, gpus_in_use: float) -> None:
        """
        Args:
            gpus_in_use: that the running configurations hold together; 0 leaves `gpu_seconds` untouched.
        """
        self.seconds, self.gpu_seconds, self.gpus_in_use = seconds, gpu_seconds, gpus_in_use
        self.started = time.monotonic()
        self.reason: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        spent = time.monotonic() - self.started
        if spent >= self.seconds:
            self.reason = "its hours are used up"
        elif spent * self.gpus_in_use >= self.gpu_seconds:
            self.reason = "its GPU hours are used up"
        return self.reason is not None
