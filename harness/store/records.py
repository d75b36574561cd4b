"""What is read from a store, as types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.yaml_tree import parse_yaml
from harness.errors import UserError
from harness.store.trial_state import TrialState
from harness.trial_spec import TrialIds, TrialSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SearchChoice:
    """What the nested search of a fold chose for a method's trials on that fold.

    Attributes:
        values: key of the configuration -> the chosen value; empty where nothing was chosen.
        configurations: how many the search tried; `failed`: how many of them got no validation Dice.
        dice: the choice's validation Dice.
        at_edge: keys whose chosen value is the lowest or the highest number that was tried: a wider search may find better.
        missing: why nothing was chosen; "" where something was.
    """

    values: dict[str, Any]
    configurations: int
    failed: int = 0
    dice: float | None = None
    at_edge: tuple[str, ...] = ()
    missing: str = ""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SearchChoice:
        """Reads what `asdict` made of one; raises TypeError where it is something else."""
        return cls(**{**content, "at_edge": tuple(content.get("at_edge", ()))})


@dataclass(frozen=True)
class TrialEntry:
    """One trial that a run asks for: an item of `trials.json`.

    Attributes:
        search: of a method whose hyperparameters a nested search chose for this fold. Where it chose nothing, `ids` are those of
            no trial.
    """

    ids: TrialIds
    method: str
    fold: str
    seed: int
    search: SearchChoice | None = field(default=None, compare=False)

    @classmethod
    def of(cls, spec: TrialSpec) -> TrialEntry:
        return cls(spec.ids, spec.method.name, spec.split.name, spec.seed)

    def to_json(self) -> dict[str, Any]:
        search = {} if self.search is None else {"search": asdict(self.search)}
        return {**asdict(self.ids), "method": self.method, "fold": self.fold, "seed": self.seed, **search}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrialEntry:
        """Reads what `to_json` wrote; raises KeyError where it is something else."""
        ids = TrialIds(*(str(content[key]) for key in ("training", "prediction", "measurement")))
        search = SearchChoice.from_json(content["search"]) if content.get("search") else None
        return cls(ids, str(content["method"]), str(content["fold"]), int(content["seed"]), search)


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


def read_config(folder: Path) -> dict[str, Any]:
    """The composed configuration of the run in `folder`.

    Raises:
        UserError: it is damaged.
    """
    import yaml

    path = folder / "config.yaml"
    try:
        config = parse_yaml(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: expected YAML, found a damaged file ({reason}). Move this run's folder away."
        ) from error
    if not isinstance(config, dict):
        raise UserError(
            f"{path}: expected lines of key: value, found a {type(config).__name__}. Move this run's folder away."
        )
    return config
