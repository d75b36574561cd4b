"""Measures each method's costs once per machine and keeps them in the store."""

from __future__ import annotations

import os
from collections.abc import Iterator

from harness.errors import TrialFailed
from harness.files import sha256_json
from harness.store import Store
from harness.suite import Suite


def measure_missing_costs(suite: Suite, store: Store) -> Iterator[str]:
    """Measures what the store lacks of the suite's methods, one at a time; yields each name before it is measured.

    Costs belong to a method's model, image size, number of modalities and the machine: these make the key.
    """
    import torch

    from harness import efficiency
    from harness.execution.serial import local_device
    from harness.methods import build_method
    from harness.provenance import describe_machine

    config = suite.config
    device = local_device(config.executor.device)
    threads = os.cpu_count() or 1
    known = {row["key"] for row in store.efficiency()}
    done: set[str] = set()
    for trial in suite.trials:
        if trial.method in done:
            continue
        done.add(trial.method)
        method_spec, size = (
            trial.spec["method"],
            config.efficiency_image_size or trial.spec["training"]["image_size"],
        )
        modalities = suite.dataset.modalities()
        machine = describe_machine(device)
        identity = {
            "method": {key: method_spec[key] for key in ("name", "version", "model")},
            "image_size": size,
            "modalities": modalities,
            "device_name": machine["device_name"],
            "threads": threads,
            "torch": torch.__version__,
        }
        key = sha256_json(identity)[:32]
        if key in known:
            continue
        yield trial.method
        torch.set_num_threads(threads)
        method = build_method(trial.method, method_spec["model"], modalities).to(device)
        try:
            measured = efficiency.measure(method, size, torch.device(device))
        except RuntimeError as error:
            raise TrialFailed(f"The costs of {trial.method} could not be measured: {error}") from error
        store.write_efficiency(key, {**measured, "method": trial.method, "model": method_spec["model"]})
