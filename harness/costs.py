"""Measures each method's costs once per machine and keeps them in the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from harness.files import sha256_json
from harness.store import Store
from harness.suite import Suite, Trial


def measure_missing_costs(suite: Suite, store: Store) -> Iterator[str]:
    """Measures what the store lacks of the suite's methods, one at a time, and yields a line for people before each.

    Costs belong to a method's model, image size, modalities and the machine: these make the key. A method that can't be
    measured gets a line that says so; its results stay.
    """
    import torch

    from harness.execution.serial import local_device

    device = torch.device(local_device(suite.config.executor.device))
    modalities = suite.dataset.modalities()
    known = {row["key"] for row in store.efficiency()}
    first_trials = {trial.method: trial for trial in reversed(suite.trials)}
    for name in suite.config.methods:
        trial = first_trials[name]
        size = suite.config.efficiency_image_size or trial.spec["training"]["image_size"]
        key = _key(trial, size, modalities, device)
        if key in known:
            continue
        yield f"costs  {name}"
        try:
            row = _measure(trial, size, modalities, device)
        except Exception as error:  # the method's own code may raise anything
            yield f"costs  {name} could not be measured: {type(error).__name__}: {error}"
            continue
        store.write_efficiency(key, row)


def _key(trial: Trial, size: int, modalities: list[str], device: Any) -> str:
    import torch

    from harness.provenance import describe_machine

    identity = {
        "method": {key: trial.spec["method"][key] for key in ("name", "version", "model")},
        "image_size": size,
        "modalities": modalities,
        "device_name": describe_machine(device.type)["device_name"],
        "threads": os.cpu_count(),
        "torch": torch.__version__,
    }
    return sha256_json(identity)[:32]


def _measure(trial: Trial, size: int, modalities: list[str], device: Any) -> dict[str, Any]:
    import torch

    from harness import efficiency
    from harness.methods import build_method

    torch.set_num_threads(os.cpu_count() or 1)
    model = trial.spec["method"]["model"]
    method = build_method(trial.method, model, modalities).to(device)
    measured = efficiency.measure(method, size, device)
    return {**measured, "method": trial.method, "model": model, "modalities": modalities}
