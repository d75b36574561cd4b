"""Commands in processes forked from one that has loaded the libraries.

Real processes, to be killed and interrupted, but without the seven CPU seconds that loading takes each time. What a user
types, `python -m harness`, starts a process of its own: `tests/e2e/test_run.py` begins with such a one.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import multiprocessing.context
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# What a run imports when it comes to it; torch's optimizers import its compiler.
_LOADED = (
    "harness.cli.run", "harness.cli.measure", "harness.trial", "harness.training.fit", "harness.inference.predict",
    "harness.evaluation.measure", "harness.planning.plan", "harness.efficiency.costs", "harness.search.sweep",
    "harness.execution.ray.executor", "reports.build", "reports.figures.all_figures", "seaborn", "torch._dynamo",
    "baselines.networks.smp", "baselines.sam.prompt_free.autosam", "tests.e2e.forked", "tests.e2e.warm",
)  # fmt: skip


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
        context = server()
        if log is None:
            kept = Path(tempfile.mkdtemp(prefix=".printed-", dir=folder))
            self._logs = kept / "stdout", kept / "stderr"
        else:
            self._logs = log, log
        logs = [str(path) for path in self._logs]
        self._process = context.Process(target=_run, args=(program, list(words), str(folder), logs, environment))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of `subprocess`: minus the signal that ended it, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float = 400) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self.returncode

    def communicate(self, timeout: float = 400) -> tuple[str, str]:
        """Waits for its end; what it printed and what it told on stderr."""
        self.wait(timeout)
        printed, told = (path.read_text("utf-8", "replace") for path in self._logs)
        return printed, told

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def server() -> multiprocessing.context.ForkServerContext:
    """Starts processes that have loaded the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED))
    return context


def finished(
    words: Sequence[str], folder: Path, timeout: float = 400, **options: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, as `subprocess.run` would; kills it when it takes longer."""
    process = Forked(words, folder, **options)
    try:
        printed, told = process.communicate(timeout)
    finally:
        process.kill()
    assert process.returncode is not None
    return subprocess.CompletedProcess(list(words), process.returncode, printed, told)


def _run(program: str, words: list[str], folder: str, logs: list[str], environment: dict[str, str]) -> None:
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
