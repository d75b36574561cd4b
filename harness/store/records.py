"""What is read from a store, as types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.store.trial_state import TrialState
from harness.trial_spec import TrialIds, TrialSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TrialEntry:
    """One trial that a run asks for: an item of `trials.json`."""

    ids: TrialIds
    method: str
    fold: str
    seed: int

    @classmethod
    def of(cls, spec: TrialSpec) -> TrialEntry:
        return cls(spec.ids, spec.method.name, spec.split.name, spec.seed)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self.ids), "method": self.method, "fold": self.fold, "seed": self.seed}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrialEntry:
        """Reads what `to_json` wrote; raises KeyError where it is something else."""
        ids = TrialIds(*(str(content[key]) for key in ("training", "prediction", "measurement")))
        return cls(ids, str(content["method"]), str(content["fold"]), int(content["seed"]))


@dataclass(frozen=True)
class TrialRecord:
    """What the store knows of a trial.

    Attributes:
        result: what `result.json` says of the training, the prediction and the measurement; None until it is measured.
        samples: one row per predicted image: see `harness.evaluation.measure`; None as long as `result` is.
        metrics: metric -> the version that its column in `samples` was computed by.
    """

    ids: TrialIds
    spec: TrialSpec
    status: TrialState
    result: dict[str, Any] | None
    samples: pd.DataFrame | None
    metrics: dict[str, int]
    curves: pd.DataFrame | None
    provenance: dict[str, Any]
    folder: Path


@dataclass(frozen=True)
class SuiteRecord:
    """One run of a suite: its resolved configuration and the trials it asked for."""

    name: str
    time: str
    folder: Path
    config: dict[str, Any]
    trials: list[TrialEntry]
