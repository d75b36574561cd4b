"""Gives Ray Tune one trial after another, when it has room for one: a grid of 10,000 would be kept in memory at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from harness.errors import UserError
from harness.store.sealed_folder import RESULT
from harness.store.store import Store
from harness.trial_spec import TrialSpec


class TrialQueue(Searcher):
    """A searcher that searches nothing: the trials in their order, each handed over to the store when its turn comes.

    Attributes:
        error: what kept a trial from being handed over; the queue ends with it.
    """

    def __init__(
        self, trials: Sequence[TrialSpec], store: Store, resources: Callable[[TrialSpec], dict[str, float]]
    ) -> None:
        super().__init__()
        self.waiting = deque(trials)
        self.store, self.resources = store, resources
        self.error: UserError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Ray keeps a copy of its settings on the disk: not one of every spec, which nobody would read."""
        return {}

    def close(self) -> None:
        """No more trials."""
        self.waiting.clear()

    def suggest(self, trial_id: str) -> Any:
        if not self.waiting:
            return Searcher.FINISHED
        trial = self.waiting.popleft()
        try:
            write_spec(self.store, trial)
        except UserError as error:
            # Ray would bury it in an error of its own.
            self.error = error
            self.close()
            return Searcher.FINISHED
        return {"trial_id": trial.id, "ids": asdict(trial.ids), "resources": self.resources(trial)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing is learnt from results."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: after a crash the same command makes a new queue of what the store lacks."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""


def write_spec(store: Store, trial: TrialSpec) -> None:
    """Leaves the spec where the worker reads it.

    Waits for nobody: the worker of a killed driver that may still hold the trial reads the same spec. Only a damaged result
    is moved, under its lock.
    """
    if any((folder / RESULT).exists() for folder in store.folders(trial.ids)):
        with store.trial_lock(trial.id):
            store.quarantine_trial(trial.ids)
    store.start_trial(trial)
