"""Sweeps whose searches run in this process."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Sweeps get a machine of one core in place of Ray, which takes seconds; gives the trials that it was asked for each time."""
    from harness.execution.ray.cluster import Cluster
    from harness.execution.ray.trial_resources import Node
    from harness.search import sweep, tuned_run

    asked: list[Any] = []

    def machine(trials: Any, *_: Any) -> Any:
        asked.append(trials)
        cpus = {trial.trained.cpu_threads: 1 for trial in trials}
        return nullcontext(Cluster({}, cpus, 0.0, [Node("1", "here", 1.0, 0.0)], None))

    for module in (sweep, tuned_run):
        monkeypatch.setattr(module, "ray_for", machine)
    return asked
