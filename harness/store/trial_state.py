"""`TrialState`: what `status.json` says of a trial. The only reader and writer of that file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.files import atomic_write_json
from harness.store.sealed_folder import SCHEMA_VERSION, check_version

_ATTEMPTS_KEPT = 20


def now() -> str:
    """UTC time, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Attempt:
    """One that died: why, on which host, when (UTC, ISO 8601)."""

    cause: str
    host: str
    time: str


@dataclass(frozen=True)
class TrialState:
    """How far a trial is.

    Attributes:
        state: pending (no status yet), running, done, failed or interrupted.
        updated: when it was last heard of; `started`: when this attempt began. UTC, ISO 8601.
        epoch, epochs, dice, epoch_seconds: of the last epoch; `dice` on the images that the selection rule looks at.
        seconds: of a trial that is done.
        reason: why it is not done.
        attempts: those that died, oldest first.
    """

    state: str = "pending"
    updated: str | None = None
    started: str | None = None
    host: str | None = None
    pid: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    dice: float | None = None
    epoch_seconds: float | None = None
    seconds: float | None = None
    reason: str | None = None
    attempts: tuple[Attempt, ...] = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrialState:
        """Reads what `write_state` wrote; raises TypeError or ValueError where it is something else."""
        known = {field.name for field in fields(cls)}
        attempts = tuple(Attempt(**each) for each in content.get("attempts", ()))
        found = {key: value for key, value in content.items() if key in known}
        return cls(**{**found, "attempts": attempts})

    def after(self, cause: str) -> TrialState:
        """The state when an attempt has died of `cause`."""
        attempt = Attempt(cause, self.host or "unknown", now())
        return TrialState("interrupted", reason=cause, attempts=(*self.attempts, attempt)[-_ATTEMPTS_KEPT:])


def write_state(folder: Path, state: TrialState) -> None:
    """Replaces the status of the trial in `folder`."""
    content = {key: value for key, value in asdict(replace(state, updated=now())).items() if value not in (None, ())}
    atomic_write_json(folder / "status.json", {"schema_version": SCHEMA_VERSION, **content})


def read_state(folder: Path) -> TrialState | None:
    """The status of the trial in `folder`, as it was written; None where there is none, or a damaged one.

    Raises:
        UserError: another version of the bench wrote it.
    """
    path = folder / "status.json"
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):  # another process may be replacing it
        return None
    if not isinstance(value, dict):
        return None
    if isinstance(version := value.get("schema_version"), int):
        check_version(path, version)
    try:
        return TrialState.from_json(value)
    except (TypeError, ValueError):
        return None
