"""How far a run is, read from its store alone: from any terminal or machine, while it runs or after it died.

Quick at 10,000 trials: one small file is read for each trial, a second look reads only those that had not ended, and results
are not checked against their checksums (`report` does).
"""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from harness.store.locks import is_held
from harness.store.records import TrialEntry
from harness.store.sealed_folder import RESULT, check_version, read_versioned
from harness.store.store import Store
from harness.store.trial_state import TrialState, read_state

STATES = ("done", "running", "pending", "failed", "interrupted")
# A trial of another machine whose lock is not felt here counts as running as long as it was heard of in this time.
_SILENCE_SECONDS = 120.0


@dataclass(frozen=True)
class TrialStatus:
    """One trial.

    Attributes:
        state: one of `STATES`.
        dice: validation Dice of its last epoch.
        started, updated: UTC, ISO 8601: when this try began, when it was last heard of.
        seconds: of a trial that is done.
        epoch_seconds: of the last epoch.
        reason: why it is not done.
        attempts: how often it was begun, as far as known.
    """

    id: str
    method: str
    fold: str
    seed: int
    state: str
    epoch: int | None = None
    epochs: int | None = None
    dice: float | None = None
    host: str | None = None
    started: str | None = None
    updated: str | None = None
    seconds: float | None = None
    epoch_seconds: float | None = None
    reason: str | None = None
    attempts: int = 0

    @property
    def label(self) -> str:
        return f"{self.method} {self.fold} seed {self.seed}"


@dataclass(frozen=True)
class RunStatus:
    """One run of a suite at one moment.

    Attributes:
        at_work: a process is running it.
        holder: who holds the store: {pid, host, since}, empty where that is not written yet; None: nobody here.
        seconds_left: for what is still to do, but for trials of `unknown` methods; None: unknown, or nothing is at work.
        unknown: methods of which no trial has shown yet how long it takes.
        command, directory: the words that run it again, and where they were typed; empty in stores of older versions.
    """

    suite: str
    time: str
    store: Path
    rows: list[TrialStatus]
    at_work: bool
    holder: dict[str, Any] | None
    seconds_left: float | None
    unknown: tuple[str, ...]
    command: tuple[str, ...]
    directory: str
    report: Path | None

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(row.state for row in self.rows)
        return {state: found[state] for state in STATES}

    def of(self, state: str) -> list[TrialStatus]:
        return [row for row in self.rows if row.state == state]


@dataclass
class StatusReader:
    """Reads one store again and again."""

    store: Store
    ended: dict[TrialEntry, TrialStatus] = field(default_factory=dict)

    def read(self, folder: Path) -> RunStatus:
        """The status of the run in this folder, `<store>/suites/<name>/<time>`.

        Raises:
            UserError: its list of trials can't be read.
        """
        asked = read_versioned(folder / "trials.json")
        holder = self._holder()
        begun = datetime.strptime(folder.name[:20], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC).timestamp()
        # Whoever took the store after this run had begun is another command.
        held = holder is not None and (_seconds(holder.get("since")) or 0.0) <= begun + 1
        rows = [self._row(TrialEntry.from_json(entry), begun if held else None) for entry in asked["trials"]]
        at_work = held or any(row.state == "running" for row in rows)
        left, unknown = time_left(rows, time.time()) if at_work else (None, ())
        html = folder / "report" / "leaderboard.html"
        return RunStatus(
            suite=folder.parent.name, time=folder.name, store=self.store.root, rows=rows, at_work=at_work, holder=holder,
            seconds_left=left, unknown=unknown, command=tuple(asked.get("command", ())),
            directory=asked.get("directory", ""), report=html if html.exists() else None,
        )  # fmt: skip

    def _holder(self) -> dict[str, Any] | None:
        root = self.store.root
        # Where locks do not reach from the run's machine to this one, trials that are heard of tell that it lives.
        return (_read(root / "run.holder.json") or {}) if is_held(root / "run.lock") else None

    def _row(self, entry: TrialEntry, retried_since: float | None) -> TrialStatus:
        """`retried_since`: a run is at work that began then, and will try again what failed before."""
        trial_id = entry.ids.training
        if entry.search is not None and entry.search.missing:
            return TrialStatus(
                trial_id, entry.method, entry.fold, entry.seed, "failed", reason=entry.search.missing, attempts=1
            )
        # The same trial may stand under several names.
        if entry in self.ended:
            return self.ended[entry]
        folder = self.store.trial_folder(trial_id)
        status = read_state(folder) or TrialState()
        state = status.state
        if (self.store.measurement_folder(entry.ids) / RESULT).exists():
            if state != "done":  # written after the result; a kill may fall between the two
                status = replace(status, seconds=(_read(folder / RESULT) or {}).get("training_seconds"))
            state = "done"
        elif state == "done":  # by other rules of measuring
            state, status = "pending", TrialState()
        elif state == "failed" and retried_since is not None and (_seconds(status.updated) or 0) < retried_since:
            state = "pending"
        elif state != "failed":
            # A damaged status counts as what its lock says.
            begun = (folder / "status.json").exists()
            state = "running" if self._runs(trial_id, status) else "interrupted" if begun else "pending"
        row = TrialStatus(
            trial_id, entry.method, entry.fold, entry.seed, state, epoch=status.epoch, epochs=status.epochs,
            dice=status.dice, host=status.host, started=status.started, updated=status.updated, seconds=status.seconds,
            epoch_seconds=status.epoch_seconds, reason=status.reason, attempts=_attempts(replace(status, state=state)),
        )  # fmt: skip
        if row.state == "done":
            self.ended[entry] = row
        return row

    def _runs(self, trial_id: str, status: TrialState) -> bool:
        if is_held(self.store.root / "locks" / trial_id):
            return True
        if status.host in (None, platform.node()):
            return False
        heard = _seconds(status.updated)
        patience = max(_SILENCE_SECONDS, 3 * (status.epoch_seconds or 0.0))
        return heard is not None and time.time() - heard < patience


def time_left(rows: list[TrialStatus], moment: float) -> tuple[float | None, tuple[str, ...]]:
    """Seconds until all is done at the pace of now, but for trials of the methods named beside it, of which nothing is known.

    A running trial needs its last epoch's time for each epoch to come; where no epoch has ended, and for trials that have
    not begun, the median of the done trials of the same method counts, or what running ones of it will have taken.
    """
    whole: dict[str, list[float]] = {}
    for row in rows:
        if row.state == "done" and row.seconds:
            whole.setdefault(row.method, []).append(row.seconds)
    for row in rows:
        if row.state == "running" and row.epoch_seconds and row.epochs and not whole.get(row.method):
            whole.setdefault(row.method, []).append(row.epoch_seconds * row.epochs)
    usual = {method: median(seconds) for method, seconds in whole.items()}
    running, waiting, unknown = [], [], set()
    for row in rows:
        if row.state in ("done", "failed"):
            continue
        seconds = usual.get(row.method)
        if row.epoch_seconds and row.epoch and row.epochs:
            seconds = row.epoch_seconds * (row.epochs - row.epoch)
        if seconds is None:
            unknown.add(row.method)
        elif row.state == "running":
            since = _seconds(row.updated if row.epoch else row.started) or moment
            running.append(max(0.0, seconds - (moment - since)))
        else:
            waiting.append(seconds)
    if unknown and not running and not waiting:
        return None, tuple(sorted(unknown))
    slots = max(1, len(running))
    return max([(sum(running) + sum(waiting)) / slots, *running]), tuple(sorted(unknown))


def _attempts(status: TrialState) -> int:
    """Attempts that died, and the one that runs or ended by itself."""
    # A failure that repeats the last death's cause is that death.
    died_last = (
        status.state in ("failed", "interrupted")
        and status.attempts
        and str(status.reason).startswith(status.attempts[-1].cause)
    )
    return len(status.attempts) + (0 if died_last or status.state == "pending" else 1)


def _read(path: Path) -> dict[str, Any] | None:
    """A small JSON file that another process may be replacing, or that is damaged: then None."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(value, dict):
        return None
    if isinstance(version := value.get("schema_version"), int):
        check_version(path, version)
    return value


def _seconds(known: Any) -> float | None:
    """Seconds since 1970 of an ISO time."""
    try:
        return datetime.fromisoformat(known).timestamp()
    except (TypeError, ValueError):
        return None
