"""Notices that a Ray of our own has died: its servers are children of this process, and nobody starts them again.

Ray itself waits for its dead servers, for a minute or for ever, and then may end the process without a word.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from subprocess import Popen
from typing import Any

import psutil
import ray

_SERVERS = ("raylet", "gcs_server")


class RayIsGone(BaseException):
    """No node is left to run trials on. No Exception: Ray Tune would first wait for its dead actors."""


def local_servers() -> dict[str, Popen[bytes]]:
    """Name -> process of the servers that `ray.init(address="local")` started."""
    node: Any = ray._private.worker._global_node
    return {name: node.all_processes[name][0].process for name in _SERVERS if node.all_processes.get(name)}


def shut_down() -> None:
    """`ray.shutdown()` of a Ray of our own, at once and with all that it started.

    Its processes are deaf to SIGTERM: Ray would wait a second for each to hear it, and its agents would live on for a minute.
    """
    node: Any = ray._private.worker._global_node
    servers = [info.process for started in node.all_processes.values() for info in started] if node is not None else []
    helpers = [child for server in servers if server.poll() is None for child in _children(server.pid)]
    for server in servers:
        server.terminate = server.kill
    ray.shutdown()
    for helper in helpers:
        with contextlib.suppress(psutil.NoSuchProcess):
            helper.kill()


def _children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def dead_server(servers: dict[str, Popen[bytes]]) -> str | None:
    """The name of a server that has ended."""
    return next((name for name, process in servers.items() if process.poll() is not None), None)


@contextlib.contextmanager
def ending_with(
    servers: dict[str, Popen[bytes]], *, patience: float = 5.0, end: Callable[[int], object] = os._exit
) -> Iterator[None]:
    """Ends this process `patience` seconds after a server has died, should the block not have ended by itself.

    The main thread may hang in a call to the dead server. The store is made for such an end: the same command goes on.
    """
    left = threading.Event()

    def watch() -> None:
        while not left.wait(0.5):
            name = dead_server(servers)
            if name is not None and not left.wait(patience):
                print(
                    f"\nRay itself died (its {name} was killed). What is finished is kept; the same command goes on.",
                    file=sys.stderr,
                    flush=True,
                )
                end(1)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()
