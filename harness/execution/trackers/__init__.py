"""Experiment trackers, off by default: `trackers=[tensorboard]` mirrors trials into a tool that a lab already looks at.

The store stays the truth. The driver hears of epochs and ends anyway and passes them on, so this is the same for every
executor; a tracker that fails costs a warning and never a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.config import TRACKERS
from harness.errors import UserError, did_you_mean
from harness.execution.trackers.follower import Follower
from harness.execution.trackers.tracker import Tracker
from harness.store.store import Store
from harness.trial_spec import TrialSpec

EXTRA = "pip install 'delightsam-bench[trackers]'"


def make_followers(names: Sequence[str], suite: str, store: Store, trials: Sequence[TrialSpec]) -> list[Follower]:
    """A follower of the run for each tracker named; `suite` becomes the tool's project or experiment.

    Raises:
        UserError: unknown name, or its library is not installed.
    """
    return [
        Follower(name, _make(name, suite, store.root / "trackers" / name), store, trials)
        for name in dict.fromkeys(names)
    ]


def _make(name: str, suite: str, folder: Path) -> Tracker:
    if name not in TRACKERS:
        raise UserError(f"trackers: '{name}' is unknown.{did_you_mean(name, TRACKERS)}")
    try:
        if name == "tensorboard":
            from harness.execution.trackers.tensorboard import TensorBoard

            return TensorBoard(folder)
        if name == "mlflow":
            from harness.execution.trackers.mlflow import MLflow

            return MLflow(folder, suite)
        from harness.execution.trackers.wandb import WeightsAndBiases

        return WeightsAndBiases(folder, suite)
    except ImportError as error:
        raise UserError(
            f"trackers=[{name}] needs a library that is not installed ({error}): {EXTRA}, or leave it out."
        ) from error
