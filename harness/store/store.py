"""Where results live: one folder a trial, named by what the trial is, whole or not there.

    <root>/trials/<id>/   spec.json status.json samples.parquet curves.csv provenance.json predictions/ checkpoint/ result.json
    <root>/suites/<name>/<time>/   config.yaml trials.json report/
    <root>/efficiency/<key>.json   costs, measured once for each method and machine
    <root>/damaged/   what failed its checksum, moved aside

`result.json` is written last and names the SHA-256 of the other files: a trial without it counts as not run.
`samples.parquet` holds no clock times, so equal trials give equal bytes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.files import (
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    explain_disk_errors,
    read_json,
    sha256_file,
    sha256_json,
)
from harness.store.locks import is_held
from harness.store.records import SCHEMA_VERSION, SuiteRecord, TrialRecord, _fault, _versioned, now
from harness.trial_spec import TrialSpec

if TYPE_CHECKING:
    import pandas as pd

_TRIES_KEPT = 20
_RESULT_FILES = ("spec.json", "samples.parquet", "curves.csv", "provenance.json")

log = logging.getLogger(__name__)


class Store:
    """Reads and writes results below `root`. Making one touches nothing on the disk."""

    def __init__(self, root: Path | str) -> None:
        if "://" in str(root):
            raise UserError(
                f"store.root={root} is an address, and the store needs a file system: it locks and renames files."
                " Mount the bucket or share (NFS, Lustre, a cloud file store) on every node and give that folder."
            )
        self.root = Path(root).expanduser().resolve()

    # --- writing -------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Makes the folders and proves that they can be written.

        Raises:
            UserError: read-only, full, or a file in the way.
        """
        with explain_disk_errors(self.root):
            for name in ("trials", "suites"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        atomic_write_json(self.root / "store.json", {"schema_version": SCHEMA_VERSION})

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the store for one run. The lock goes with the process, so a killed run leaves none behind.

        Raises:
            UserError: another run holds it; says which process on which machine.
        """
        from filelock import FileLock, Timeout

        lock, holder = FileLock(self.root / "run.lock"), self.root / "run.holder.json"
        try:
            with explain_disk_errors(self.root / "run.lock"):
                # Not at once: a `status` that asks who holds the lock has it for a moment.
                lock.acquire(timeout=1)
        except Timeout as error:
            who = "another process"
            with contextlib.suppress(OSError, ValueError):
                found = json.loads(holder.read_text("utf-8"))
                who = f"process {found['pid']} on {found['host']} since {found['since']}"
            raise UserError(
                f"The store {self.root} is in use by {who}. Wait for that run to end, or give this one a store of its own:"
                " store.root=other_runs. Nothing was changed."
            ) from error
        try:
            atomic_write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": now()})
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def start_trial(self, spec: TrialSpec) -> Path:
        """Makes the trial's folder and keeps its spec. What an interrupted try left (its checkpoint) stays."""
        folder = self.trial_folder(spec.id)
        atomic_write_json(folder / "spec.json", {"schema_version": SCHEMA_VERSION, **spec.to_json()})
        return folder

    @contextlib.contextmanager
    def trial_lock(self, trial_id: str, patience_seconds: float = 120.0) -> Iterator[None]:
        """Holds one trial: the worker of a driver that was killed may live a little longer than its driver.

        Raises:
            UserError: another process still holds it after `patience_seconds`.
        """
        from filelock import FileLock, Timeout

        # Not in the trial's folder, which may be moved or removed while the lock is held.
        path = self.root / "locks" / trial_id
        try:
            with explain_disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(path).acquire(timeout=patience_seconds)
        except Timeout as error:
            raise UserError(
                f"Trial {trial_id[:12]} in {self.root} is being run by another process. Wait for it, or end it."
            ) from error
        with lock:
            yield

    def write_status(self, trial_id: str, state: str, **details: Any) -> None:
        """Replaces the trial's status; the causes of tries that died stay in it (see `record_attempt`).

        Args:
            state: running, done, failed or interrupted (`pending` is what is read where there is no status).
            details: such as started, host, pid, epoch, epochs, dice, reason.
        """
        status = {"schema_version": SCHEMA_VERSION, "state": state, "updated": now(), **details}
        if "tries" not in status and (tries := self.tries(trial_id)):
            status["tries"] = tries
        atomic_write_json(self.trial_folder(trial_id) / "status.json", status)

    def record_attempt(self, trial_id: str, cause: str) -> None:
        """Keeps why a try of the trial died, where and when: `tries: [{cause, host, time}, ...]` in its status, oldest first."""
        host = self.status(trial_id).get("host", "unknown")
        tries = [*self.tries(trial_id), {"cause": cause, "host": host, "time": now()}]
        self.write_status(trial_id, "interrupted", reason=cause, tries=tries[-_TRIES_KEPT:])

    def tries(self, trial_id: str) -> list[dict[str, Any]]:
        """The tries of the trial whose process died, oldest first; empty where all went well."""
        path = self.trial_folder(trial_id) / "status.json"
        return list(_versioned(path).get("tries", [])) if path.exists() else []

    def finish_trial(
        self,
        trial_id: str,
        *,
        samples: pd.DataFrame,
        curves: pd.DataFrame,
        provenance: dict[str, Any],
        summary: dict[str, Any],
    ) -> None:
        """Writes the results and, last of all, `result.json`: from then on the trial is done."""
        folder = self.trial_folder(trial_id)
        buffer = BytesIO()
        samples.to_parquet(buffer, index=False)
        atomic_write_bytes(folder / "samples.parquet", buffer.getvalue())
        atomic_write_text(folder / "curves.csv", curves.to_csv(index=False))
        atomic_write_json(folder / "provenance.json", {"schema_version": SCHEMA_VERSION, **provenance})
        result = {
            "schema_version": SCHEMA_VERSION,
            "id": trial_id,
            "state": "done",
            **summary,
            "files": {name: sha256_file(folder / name) for name in _RESULT_FILES},
        }
        atomic_write_json(folder / "result.json", {**result, "checksum": sha256_json(result)})
        self.write_status(trial_id, "done", seconds=summary.get("seconds"))

    def quarantine_trial(self, trial_id: str) -> None:
        """Moves a trial whose files don't match its `result.json` to `damaged/`, so that it can run again."""
        folder = self.trial_folder(trial_id)
        if (folder / "result.json").exists() and _fault(folder) is not None:
            target = self.root / "damaged" / f"{trial_id}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S%f')}"
            with explain_disk_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                folder.replace(target)
            log.warning("Trial %s was damaged: moved to %s, and run again.", trial_id[:12], target)

    def discard_trial(self, trial_id: str) -> None:
        """Forgets a trial, for `reuse=never`."""
        shutil.rmtree(self.trial_folder(trial_id), ignore_errors=True)

    def write_efficiency(self, key: str, row: dict[str, Any]) -> None:
        atomic_write_json(self.root / "efficiency" / f"{key}.json", {"schema_version": SCHEMA_VERSION, **row})

    def start_suite(
        self, name: str, config_yaml: str, trials: list[dict[str, Any]], command: Sequence[str] = ()
    ) -> Path:
        """Keeps what this run was asked for, by which words and where; returns its folder, named by the time in UTC."""
        parent = self.root / "suites" / name
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        folder = parent / stamp
        while folder.exists():
            stamp += "x"
            folder = parent / stamp
        atomic_write_text(folder / "config.yaml", config_yaml)
        asked = {"suite": name, "command": list(command), "directory": str(Path.cwd()), "trials": trials}
        atomic_write_json(folder / "trials.json", {"schema_version": SCHEMA_VERSION, **asked})
        return folder

    # --- reading -------------------------------------------------------------------------------------------------

    def trial_folder(self, trial_id: str) -> Path:
        return self.root / "trials" / trial_id

    def trial_ids(self) -> list[str]:
        return sorted(path.name for path in (self.root / "trials").glob("*") if (path / "spec.json").exists())

    def result(self, trial_id: str) -> dict[str, Any] | None:
        """The result of a whole trial, checked against its checksums; None when it has none, or is damaged."""
        folder = self.trial_folder(trial_id)
        if not (folder / "result.json").exists():
            return None
        fault = _fault(folder)
        if fault is not None:
            log.warning("Trial %s is damaged (%s): it counts as not run.", trial_id[:12], fault)
            return None
        return dict(read_json(folder / "result.json"))

    def status(self, trial_id: str) -> dict[str, Any]:
        """The trial's last status; `pending` where there is none yet, `interrupted` where its process is gone."""
        path = self.trial_folder(trial_id) / "status.json"
        if not path.exists():
            return {"state": "pending"}
        status = _versioned(path)
        if status["state"] == "running" and not is_held(self.root / "locks" / trial_id):
            status["state"] = "interrupted"
        return status

    def spec(self, trial_id: str) -> TrialSpec:
        """What the trial is, as `run_trial` takes it.

        Raises:
            UserError: no such trial, damaged, or written by another version.
        """
        path = self.trial_folder(trial_id) / "spec.json"
        content = _versioned(path)
        try:
            return TrialSpec.from_json(content)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    def load(self, trial_id: str) -> TrialRecord:
        """Everything about one trial.

        Raises:
            UserError: no such trial, or written by a newer version.
        """
        import pandas as pd

        folder = self.trial_folder(trial_id)
        result = self.result(trial_id)
        if not folder.exists():
            raise UserError(f"There is no trial {trial_id} in {self.root}.")
        curves, provenance = folder / "curves.csv", folder / "provenance.json"
        return TrialRecord(
            id=trial_id,
            spec=self.spec(trial_id),
            status=self.status(trial_id),
            result=result,
            samples=pd.read_parquet(folder / "samples.parquet") if result else None,
            curves=pd.read_csv(curves) if result and curves.exists() else None,
            provenance=_versioned(provenance) if result and provenance.exists() else {},
            folder=folder,
        )

    def efficiency(self) -> list[dict[str, Any]]:
        """All measured costs, one dict for each method, size and machine; `key` names the file."""
        files = sorted((self.root / "efficiency").glob("*.json"))
        return [{"key": path.stem, **_versioned(path)} for path in files]

    def suites(self) -> list[SuiteRecord]:
        """All runs of suites, oldest first."""
        import yaml

        records = []
        for path in (self.root / "suites").glob("*/*/trials.json"):
            folder = path.parent
            config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
            trials = _versioned(path)["trials"]
            records.append(SuiteRecord(folder.parent.name, folder.name, folder, config, trials))
        return sorted(records, key=lambda record: (record.time, record.name))
