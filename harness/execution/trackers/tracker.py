"""`Tracker`: what is logged to a tool about a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Tracker(Protocol):
    """One tool. Called from one thread of its own; whatever it raises is caught there."""

    def open(self, name: str, hyperparameters: Mapping[str, Any], run: str | None, epoch: int) -> str:
        """Begins a run, or goes on with `run` after `epoch` epochs; returns the tool's own name of the run."""

    def log(self, run: str, epoch: int, values: Mapping[str, float]) -> None:
        """What an epoch tells."""

    def close(self, run: str, state: str, results: Mapping[str, float]) -> None:
        """Ends a run: done, failed or interrupted. `results` are the means over test images, empty but for done."""

    def end(self) -> None:
        """No more calls follow."""
