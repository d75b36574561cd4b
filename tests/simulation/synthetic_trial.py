"""A trial that trains nothing and leaves in the store all that a real one leaves. Imported by Ray's workers."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from harness.metrics import REGISTRY
from harness.store.store import Store
from harness.store.trial_state import now
from harness.training.epoch_result import EpochResult
from harness.trial import TrialContext
from harness.trial_spec import TrialSpec

EPOCHS = 3
METRICS = tuple(REGISTRY)


def run(
    spec: TrialSpec,
    context: TrialContext,
    report: Callable[[EpochResult | None], None] = lambda epoch: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Has the signature, the lock, the files and the reports of `harness.trial.run_trial`."""
    store, trial_id = Store(context.store_root), spec.id
    place: dict[str, Any] = {"started": now(), "host": platform.node(), "pid": os.getpid()}
    with store.trial_lock(trial_id):
        if store.result(spec.ids) is not None:
            return {"state": "done", "reason": None}
        store.quarantine_trial(spec.ids)
        store.start_trial(spec)
        store.write_status(trial_id, "running", **place, epoch=0)
        rows = []
        for epoch in range(1, EPOCHS + 1):
            result = EpochResult(
                epoch, EPOCHS, "all", 1 / epoch, 1 - 1 / epoch, "validation", 0.001, 0.01, epoch == EPOCHS
            )
            rows.append(result.curve_row())
            store.write_status(trial_id, "running", **place, epoch=epoch, epochs=EPOCHS, dice=0.5, epoch_seconds=0.01)
            report(result)
        report(None)
        store.finish_training(
            spec.ids,
            curves=pd.DataFrame(rows),
            provenance={"command": list(context.command), "libraries": {}},
            summary={"training_seconds": 0.05, "epochs": EPOCHS, "chosen_epoch": EPOCHS},
        )
        store.finish_prediction(spec.ids, masks=None, summary={"prediction_seconds": 0.05})
        store.finish_measurement(
            spec.ids, samples=samples(spec), metrics=dict.fromkeys(METRICS, 1), summary={"warnings": []}
        )
        store.write_status(trial_id, "done", seconds=0.1)
    return {"state": "done", "reason": None}


def samples(spec: TrialSpec) -> pd.DataFrame:
    """A row for each test and validation image, drawn by the trial's own id."""
    keys = [(role, key) for role in ("test", "validation") for key in spec.split.of(role)]
    values = np.random.default_rng(int(spec.id[:8], 16)).uniform(0.2, 1.0, (len(keys), len(METRICS)))
    table = pd.DataFrame(values, columns=list(METRICS))
    parts = [key.split("/") for _, key in keys]
    places = {"modality": [p[0] for p in parts], "domain": [p[1] for p in parts], "id": [p[2] for p in parts]}
    return pd.DataFrame({"role": [role for role, _ in keys], **places}).join(table)
