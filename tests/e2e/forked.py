"""Commands in processes forked from one that has loaded the libraries.

Real processes, to be killed and interrupted, but without the seven CPU seconds that loading takes each time. What a user
types, `python -m harness`, starts a process of its own: `tests/e2e/test_run.py` begins with such a one.
"""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .fork_server import start_process


class Forked:
    """A command that runs, with the manners of a `subprocess.Popen`; what it prints goes to `log`, or to two files.

    Args:
        words: of `python -m harness`, or of another program with a function `main`.
        environment: what the command's environment has besides that of the tests.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        *,
        log: Path | None = None,
        program: str = "harness.cli",
        **environment: str,
    ) -> None:
        if log is None:
            kept = Path(tempfile.mkdtemp(prefix=".printed-", dir=folder))
            self._logs = kept / "stdout", kept / "stderr"
        else:
            self._logs = log, log
        logs = [str(path) for path in self._logs]
        self.pid, self._connection = start_process(program, list(words), str(folder), logs, environment)
        self._returncode: int | None = None

    @property
    def returncode(self) -> int | None:
        """As of `subprocess`: minus the signal that ended it, None while it runs."""
        return self._look(0)

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float = 400) -> int:
        if (code := self._look(timeout)) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return code

    def _look(self, seconds: float) -> int | None:
        if self._returncode is None and self._connection.poll(seconds):
            self._returncode = self._connection.recv()
            self._connection.close()
        return self._returncode

    def communicate(self, timeout: float = 400) -> tuple[str, str]:
        """Waits for its end and returns what it wrote to stdout and stderr."""
        self.wait(timeout)
        stdout, stderr = (path.read_text("utf-8", "replace") for path in self._logs)
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def finished(
    words: Sequence[str], folder: Path, timeout: float = 400, **options: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, as `subprocess.run` would; kills it when it takes longer."""
    process = Forked(words, folder, **options)
    try:
        stdout, stderr = process.communicate(timeout)
    finally:
        process.kill()
    assert process.returncode is not None
    return subprocess.CompletedProcess(list(words), process.returncode, stdout, stderr)


def run(program: str, words: list[str], folder: str, logs: list[str], environment: dict[str, str]) -> None:
    """Becomes the command, in a fork: its streams, folder and environment; ends with its exit code."""
    for stream, log in zip((1, 2), logs, strict=True):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    # A shell starts background jobs deaf to Ctrl-C, and these tests may run in one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.update(environment)
    # `python -m` finds modules in the folder that it is started in, and in PYTHONPATH.
    sys.path[:0] = [folder, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    sys.argv = [program, *words]
    try:
        code = importlib.import_module(program).main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    # A process of multiprocessing ends without these; Ray ends its servers here.
    atexit._run_exitfuncs()
    sys.exit(code)
