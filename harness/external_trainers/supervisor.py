"""Runs a command and ends it, with all that it started, once its standard input closes. A program of its own.

    python -P supervisor.py LOCK COMMAND [ARGUMENT ...]

The bench holds the other end of standard input: it closes when the bench closes it, and also when the bench is killed with
SIGKILL. The command's processes first get SIGTERM, and after `GRACE_SECONDS` SIGKILL. LOCK is held for as long as any of them
lives, so that a second call for the same folder waits for the end of the first. Exit code: that of the command, 128 + n where
signal n ended it.

It is two processes: the bench's child waits for its own child, which does the work. Ray ends a worker's children with SIGKILL
before the worker itself; what does the work is no child of the worker's, and sees standard input close.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

GRACE_SECONDS = 5.0
NOT_STARTED = 127
STOPPED = 143
_LOOK_SECONDS = 0.1


def main(lock_path: Path, command: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(_stop(None)))
    with lock_path.open("a") as lock:
        while not _locked(lock.fileno()):
            if _let_go():
                return STOPPED
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as error:
            print(f"{command[0]} could not be started: {error}", flush=True)
            return NOT_STARTED
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(_stop(child)))
        while child.poll() is None:
            if _let_go():
                return _stop(child)
        _end(_family(), signal.SIGKILL)  # what the command left behind
        return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _let_go() -> bool:
    """Whether standard input has closed; waits a moment for it."""
    return bool(select.select([0], [], [], _LOOK_SECONDS)[0])


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _stop(child: subprocess.Popen[bytes] | None) -> int:
    if child is not None:
        limit = time.monotonic() + GRACE_SECONDS
        _end(_family(), signal.SIGTERM)
        while _family() and time.monotonic() < limit:
            child.poll()
            time.sleep(_LOOK_SECONDS)
        while family := _family():
            _end(family, signal.SIGKILL)
            child.poll()
            time.sleep(_LOOK_SECONDS)
    return STOPPED


def _family() -> list[psutil.Process]:
    """The processes of this session and all descendants, but the supervisor's two and those that have ended."""
    own = os.getpid()
    found = {}
    with contextlib.suppress(psutil.Error):
        found = {process.pid: process for process in psutil.Process(own).children(recursive=True)}
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if process.pid not in (own, os.getppid()) and os.getsid(process.pid) == os.getsid(0):
                found[process.pid] = process
    return [process for process in found.values() if _lives(process)]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _end(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _wait_for(worker: int) -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(worker, signal.SIGTERM))
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    if worker := os.fork():
        sys.exit(_wait_for(worker))
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
