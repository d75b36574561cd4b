"""A process that has loaded the libraries, and forks one that runs a command whenever it is asked. Linux only.

One server for all processes that run the tests, since loading takes seconds of CPU time. Its address holds the id of the process
that it serves: that of pytest, which starts the others. When that one ends the server ends, and kills what still runs.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import multiprocessing.context
import os
import select
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

# What a run imports when it comes to it; torch's optimizers import its compiler.
_LOADED = (
    "harness.cli.run", "harness.cli.measure", "harness.trial", "harness.training.fit", "harness.inference.predict",
    "harness.evaluation.measure", "harness.planning.plan", "harness.efficiency.costs", "harness.search.sweep",
    "harness.execution.ray.executor", "reports.build", "reports.figures.all_figures", "seaborn", "torch._dynamo",
    "baselines.networks.smp", "baselines.sam.prompt_free.autosam", "tests.e2e.forked", "tests.e2e.warm",
)  # fmt: skip
_CODE = "import sys; sys.path[:] = {path}; from tests.e2e.fork_server import serve; serve({pid})"
_SECONDS = 60
_fork = multiprocessing.get_context("fork")


def load() -> None:
    """Imports what commands import, and compiles what they compile."""
    for name in _LOADED:
        importlib.import_module(name)


def start_process(*arguments: Any) -> tuple[int, Connection]:
    """Runs `forked.run(*arguments)` in a new process; its id, and where its exit code will come from."""
    connection = _connect()
    connection.send(arguments)
    return connection.recv(), connection


def _connect() -> Connection:
    """To the server, which is started where there is none."""
    # xdist's processes are children of pytest's.
    pid = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    limit, started = time.monotonic() + _SECONDS, False
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(_address(pid))
            return Connection(client.detach())
        except ConnectionRefusedError:
            client.close()
            if time.monotonic() > limit:
                raise
        if not started:
            words = [sys.executable, "-c", _CODE.format(path=sys.path, pid=pid)]
            _servers.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
            started = True
        time.sleep(0.02)


_servers: list[subprocess.Popen[bytes]] = []  # kept, so that none is missed while it runs


def _address(pid: int) -> str:
    """In Linux's abstract namespace: no file is left, and a path may be as long as it likes."""
    return f"\0delightsam-bench-tests-{pid}"


def serve(pid: int) -> None:
    """Starts processes until process `pid` ends; returns at once where another server has the address."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, whose end is this one's
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(_address(pid))
    except OSError:
        return
    listener.listen(64)  # callers wait in its queue while the libraries load
    load()
    served = os.pidfd_open(pid)
    running: dict[int, tuple[multiprocessing.context.ForkProcess, Connection]] = {}
    while served not in (ready := select.select([listener.fileno(), served, *running], [], [])[0]):
        for number in ready:
            if number == listener.fileno():
                connection = Connection(listener.accept()[0].detach())
                with contextlib.suppress(EOFError):  # a test that was killed before it asked
                    process = _begin(connection)
                    assert process.pid is not None
                    running[os.pidfd_open(process.pid)] = process, connection
            else:
                process, connection = running.pop(number)
                os.close(number)
                process.join()
                with contextlib.suppress(OSError):  # a test that does not wait for its end
                    connection.send(process.exitcode)
                connection.close()
    for process, _ in running.values():
        process.kill()
    os._exit(0)  # at once: freeing all that was loaded takes a second


def _begin(connection: Connection) -> multiprocessing.context.ForkProcess:
    from .forked import run

    process = _fork.Process(target=run, args=connection.recv())
    process.start()
    connection.send(process.pid)
    return process
