"""Runs one command of a trainer to its end, its time or a request to stop, and leaves no process of it behind."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import TrialFailed, TrialInterrupted
from harness.external_trainers import supervisor
from harness.files import explain_disk_errors
from harness.store.locks import is_held
from harness.store.trial_state import now

_LOOK_SECONDS = 0.25
_CLOSE_LOOK_SECONDS = 0.02
_HEARTBEAT_SECONDS = 30.0
_LAST_LINES = 15
_LONGEST_TAIL = 20_000


@dataclass(frozen=True)
class Command:
    """A command of a trainer.

    Attributes:
        stage: "train" or "predict".
        words: with the placeholders filled in.
        log: its output is added to this file.
        lock: held while any process of the command lives.
    """

    stage: str
    words: Sequence[str]
    log: Path
    lock: Path
    environment: Mapping[str, str]
    timeout_seconds: float

    def run(self, should_stop: Callable[[], bool], heartbeat: Callable[[], None]) -> None:
        """Runs it.

        Args:
            should_stop: asked a few times each second.
            heartbeat: called twice a minute.

        Raises:
            TrialFailed: it ended with another code than 0, or its time was over.
            TrialInterrupted: it was stopped.
        """
        with explain_disk_errors(self.log):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            log = self.log.open("ab")
        with log:
            log.write(f"--- {now()} {self.stage}: {shlex.join(self.words)}\n".encode(errors="replace"))
            log.flush()
            began = log.tell()
            process = subprocess.Popen(
                # By its path and without the folder it lies in: the trainer's environment is not ours.
                [sys.executable, "-P", supervisor.__file__, str(self.lock), *self.words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                start_new_session=True,
            )
            try:
                self._wait(process, should_stop, heartbeat)
            finally:
                _end(process, self.lock)
        if process.returncode != 0:
            if should_stop():  # whoever stops the bench may have stopped the command with it
                raise TrialInterrupted("asked to stop")
            raise TrialFailed(
                f"The {self.stage} command {_how_it_ended(process.returncode)}: {shlex.join(self.words)}\n{self._tail(began)}"
            )

    def _wait(
        self, process: subprocess.Popen[bytes], should_stop: Callable[[], bool], heartbeat: Callable[[], None]
    ) -> None:
        started = heard = time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
                return
            if should_stop():
                raise TrialInterrupted("asked to stop")
            if time.monotonic() - started > self.timeout_seconds:
                raise TrialFailed(
                    f"The {self.stage} command was ended after {self.timeout_seconds / 3600:.4g} hours (timeout_hours of its"
                    f" method). The same command goes on with it.\n{self._tail(0)}"
                )
            if time.monotonic() - heard > _HEARTBEAT_SECONDS:
                heard = time.monotonic()
                heartbeat()

    def _tail(self, began: int) -> str:
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(began, end - _LONGEST_TAIL))
            lines = file.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()
        shown = "\n".join(f"  {line}" for line in lines[-_LAST_LINES:] if line.strip())
        return f"Last lines of {self.log}:\n{shown}" if shown else f"It wrote nothing to {self.log}."


def _end(process: subprocess.Popen[bytes], lock: Path) -> None:
    """Ends the supervisor, and with it the command; by force where the supervisor does not answer."""
    if process.stdin is not None:
        process.stdin.close()
    limit = time.monotonic() + 2 * supervisor.GRACE_SECONDS
    try:
        # The part of the supervisor that holds the lock may live on where the other was killed.
        while (process.poll() is None or is_held(lock)) and time.monotonic() < limit:
            time.sleep(_CLOSE_LOOK_SECONDS)
    finally:
        # The session's group, which may outlive a supervisor that was killed.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _how_it_ended(code: int) -> str:
    if code == supervisor.NOT_STARTED:
        return "could not be started"
    number = -code if code < 0 else code - 128
    if code < 0 or code > 128:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(number).name}"
    return f"ended with code {code}"
