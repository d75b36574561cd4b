"""The bench: what to run, running it, measuring it, keeping it.

    config -> planning (methods, protocols, data) -> execution -> trial: training -> inference -> evaluation -> store -> reports

`trial_spec` says what a trial is and what its three ids cover; `trial` runs the stages in order.

From Python: `from harness import run, plan, evaluate, load_results, figures`, see `harness.api`.

Importing this package is cheap on purpose: torch, ray and matplotlib are imported by the functions that need them, and
`harness.api` when one of its names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import PlannedRun as PlannedRun
    from harness.api import Results as Results
    from harness.api import TrainedTrial as TrainedTrial
    from harness.api import evaluate as evaluate
    from harness.api import figures as figures
    from harness.api import load_results as load_results
    from harness.api import plan as plan
    from harness.api import run as run

__version__ = "0.1.0"
_API = ("PlannedRun", "Results", "TrainedTrial", "evaluate", "figures", "load_results", "plan", "run")


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module("harness.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
