"""What is read from a store, and the checks of its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.files import (
    read_json,
    sha256_file,
    sha256_json,
)
from harness.trial_spec import TrialSpec

if TYPE_CHECKING:
    import pandas as pd


SCHEMA_VERSION = 1


def now() -> str:
    """UTC time, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class TrialRecord:
    """What the store knows of a trial. `result` is None until the trial is whole; then `samples` is there too."""

    id: str
    spec: TrialSpec
    status: dict[str, Any]
    result: dict[str, Any] | None
    samples: pd.DataFrame | None
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
    trials: list[dict[str, Any]]


def _versioned(path: Path) -> dict[str, Any]:
    value = read_json(path)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema_version {version}; this version of the bench reads up to {SCHEMA_VERSION}."
            " Update delightsam-bench, or give another store.root."
        )
    return dict(value)


def _fault(folder: Path) -> str | None:
    """What is wrong with a finished trial's files, or None."""
    try:
        result = json.loads((folder / "result.json").read_text("utf-8"))
        checksum = result.pop("checksum", None)
    except (OSError, ValueError, AttributeError) as error:
        return f"result.json can't be read: {error}"
    if isinstance(result.get("schema_version"), int) and result["schema_version"] > SCHEMA_VERSION:
        raise UserError(
            f"{folder / 'result.json'} was written by a newer version (schema {result['schema_version']}, this one reads"
            f" up to {SCHEMA_VERSION}). Update delightsam-bench, or give another store.root."
        )
    if checksum != sha256_json(result):
        return "result.json does not match its checksum"
    for name, expected in result["files"].items():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if sha256_file(path) != expected:
            return f"{name} does not match its checksum"
    return None
