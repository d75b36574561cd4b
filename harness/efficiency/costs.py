"""Measures each method's costs once per machine and keeps them in the store."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from harness.errors import described, raise_stop_behind
from harness.files import sha256_json
from harness.hardware import usable_cores
from harness.methods.crossing import wrapped_model
from harness.planning.plan import Plan
from harness.store.store import Store
from harness.store.trial_state import now
from harness.trial_spec import TrialSpec

# Raised when the same method on the same machine would be given other figures.
COSTS_VERSION = 3

logger = logging.getLogger(__name__)


def measure_missing_costs(plan: Plan, store: Store) -> Iterator[str]:
    """Measures what the store lacks of the suite's methods, one at a time, and yields a line for people before each.

    Costs belong to a method's model, image size, the modalities it is built for (those of its first trial), the machine
    and how long it was timed: these make the key. What can't be measured is logged as a warning, which -q shows too; the
    method's results stay. Algorithms that are gone at test time share one measurement of their method: clocks would show a
    difference where there is none.
    """
    import torch

    from harness.efficiency.forms import why_not_compiled

    device = torch.device("cuda" if torch.cuda.is_available() and plan.config.executor.device != "cpu" else "cpu")
    compiled = plan.config.efficiency_compiled
    if compiled and (lacking := why_not_compiled(device)):
        compiled = False
        logger.warning("Costs of compiled forms were not measured: %s", lacking)
    known = {row["key"] for row in store.efficiency()}
    measured: dict[str, dict[str, Any]] = {}
    first_trials: dict[str, TrialSpec] = {}
    for trial in plan.trials:
        first_trials.setdefault(trial.method.name, trial)
    for name, trial in first_trials.items():
        if trial.method.trainer is not None:
            yield f"costs  {name}: not measured, a program of its own trains and predicts"
            continue
        size = plan.config.efficiency_image_size or trial.trained.image_size
        key = _key(trial, size, device, plan.config.efficiency_seconds, compiled)
        if key in known:
            continue
        yield f"costs  {name}"
        try:
            row = _measure(trial, size, device, plan.config.efficiency_seconds, measured, compiled)
        except Exception as error:  # the method's own code may raise anything
            raise_stop_behind(error)
            logger.warning("Costs of %s could not be measured: %s", name, described(error))
            continue
        store.write_efficiency(key, row)
        for words in row["left_out"]:
            logger.warning("Costs of %s: left out: %s", name, words)


def _key(trial: TrialSpec, size: int, device: Any, seconds: float, compiled: bool) -> str:
    import torch

    from harness.hardware import describe_machine

    identity = {
        "costs_version": COSTS_VERSION,
        "method": {"name": trial.method.name, "version": trial.method.version, "model": trial.method.model},
        "image_size": size,
        "modalities": trial.modalities,
        "device_name": describe_machine(device.type)["device_name"],
        "threads": usable_cores(),
        "seconds": seconds,
        "torch": torch.__version__,
        # Named only where it is so: other costs keep the key that they had before these came.
        **({"compiled": True} if compiled else {}),
        **({"energy": True} if device.type == "cuda" else {}),
    }
    return sha256_json(identity)[:32]


def _measure(
    trial: TrialSpec, size: int, device: Any, seconds: float, measured: dict[str, dict[str, Any]], compiled: bool
) -> dict[str, Any]:
    """A row of costs; `measured` holds, and is given, the figures of what predicts."""
    import torch

    from harness.efficiency import measure as efficiency
    from harness.methods.adapter import MethodAdapter
    from harness.methods.building import build_method

    model, modalities = trial.method.model, trial.modalities
    prompt = trial.method.prompt
    method = build_method(trial.method.name, model, modalities, prompt=prompt).to(device)
    deployed = MethodAdapter(method).deployed()
    alike = sha256_json([model if deployed is method else wrapped_model(model), modalities, size])
    if alike not in measured:
        threads = torch.get_num_threads()
        torch.set_num_threads(usable_cores())
        try:
            measured[alike] = efficiency.measure(deployed, size, device, budget_seconds=seconds, compiled=compiled)
        finally:
            torch.set_num_threads(threads)
    return {
        **measured[alike],
        **efficiency.count_parameters(method),
        "method": trial.method.name,
        "method_version": trial.method.version,
        "model": model,
        "modalities": modalities,
        "measured": now(),
    }
