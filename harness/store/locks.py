"""Locks of runs and trials: holding one, and who holds one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError
from harness.files import atomic_write_json, explain_disk_errors
from harness.store.trial_state import now


def is_held(lock: Path) -> bool:
    """Whether a process holds this lock, also in a store that can't be written; where locks can't be asked: yes."""
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, as a file opened for reading allows it, and gone again with the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold_store(root: Path) -> Iterator[None]:
    """Holds the store for one run. The lock goes with the process, so a killed run leaves none behind.

    Raises:
        UserError: another run holds it; says which process on which machine.
    """
    from filelock import FileLock, Timeout

    lock, holder = FileLock(root / "run.lock"), root / "run.holder.json"
    try:
        with explain_disk_errors(root / "run.lock"):
            # Not at once: a `status` that asks who holds the lock has it for a moment.
            lock.acquire(timeout=1)
    except Timeout as error:
        who = "another process"
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(holder.read_text("utf-8"))
            who = f"process {found['pid']} on {found['host']} since {found['since']}"
        raise UserError(
            f"The store {root} is in use by {who}. Wait for that run to end, or give this one a store of its own:"
            " store.root=other_runs. Nothing was changed."
        ) from error
    try:
        atomic_write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": now()})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def hold_trial(root: Path, trial_id: str, patience_seconds: float) -> Iterator[None]:
    """Holds one trial: the worker of a driver that was killed may live a little longer than its driver.

    Raises:
        UserError: another process still holds it after `patience_seconds`.
    """
    from filelock import FileLock, Timeout

    # Not in the trial's folder, which may be moved or removed while the lock is held.
    path = root / "locks" / trial_id
    try:
        with explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path).acquire(timeout=patience_seconds)
    except Timeout as error:
        raise UserError(
            f"Trial {trial_id[:12]} in {root} is being run by another process. Wait for it, or end it."
        ) from error
    with lock:
        yield
