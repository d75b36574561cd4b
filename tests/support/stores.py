"""Finished trials in a store, without training one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.metrics import REGISTRY
from harness.store.store import Store
from harness.trial_spec import TrialIds, TrialSpec

_NO_CURVES = pd.DataFrame(columns=["epoch", "stage", "train_loss", "learning_rate", "seconds"])


def finished_trial(
    store: Store,
    spec: TrialSpec,
    samples: pd.DataFrame,
    *,
    curves: pd.DataFrame = _NO_CURVES,
    provenance: dict[str, Any] | None = None,
    seconds: float = 1.0,
    prediction_seconds: float = 0.0,
    masks: Mapping[tuple[str, str], np.ndarray] | None = None,
    **summary: Any,
) -> Path:
    """Writes all levels of the trial by the store's own functions; returns the folder of the measurement.

    Args:
        samples: the table; the metrics among its columns have today's versions.
        seconds: of training.
        masks: (role, key) -> mask (H, W) bool; None: masks were not kept.
        summary: further facts of the training.
    """
    store.start_trial(spec)
    for (role, key), mask in (masks or {}).items():
        store.write_mask(spec.ids, role, key, mask)
    store.finish_training(
        spec.ids, curves=curves, provenance=provenance or {}, summary={"training_seconds": seconds, **summary}
    )
    store.finish_prediction(
        spec.ids, masks=None if masks is None else list(masks), summary={"prediction_seconds": prediction_seconds}
    )
    versions = {name: metric.version for name, metric in REGISTRY.items() if name in samples}
    store.finish_measurement(spec.ids, samples=samples, metrics=versions, summary={"warnings": []})
    store.write_status(spec.id, "done", seconds=seconds)
    return store.measurement_folder(spec.ids)


def ids(name: str) -> TrialIds:
    """Ids of a trial that needs no spec."""
    return TrialIds(name, name, name)


def files_of(folder: Path) -> dict[str, bytes]:
    """Name -> content of each file."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
