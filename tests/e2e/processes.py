"""The descendants of a process of ours, each known by its id and its start, so that no reused id is ever met. Linux only."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """`started`: clock ticks since the machine's start."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether this very process is there, and no zombie."""
        found = _stat(self.pid)
        return found is not None and found[2] == self.started and found[0] != "Z"

    @property
    def title(self) -> str:
        """The first word of its command line, as a program may have rewritten it; "" when it is gone."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")[0].decode("utf-8", "replace")
        except OSError:
            return ""

    def kill(self) -> None:
        """SIGKILL."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)


def descendants(pid: int) -> set[Process]:
    """Children of `pid`, their children, and so on."""
    table = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (found := _stat(int(folder.name))):
            table[int(folder.name)] = found
    family, new = set[int](), {pid}
    while new:
        new = {child for child, (_, parent, _) in table.items() if parent in new} - family
        family |= new
    return {Process(child, table[child][2]) for child in family}


def still_alive(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Waits for their end; those that are left after `seconds`."""
    limit = time.monotonic() + seconds
    while (left := [process for process in processes if process.alive]) and time.monotonic() < limit:
        time.sleep(0.1)
    return left


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start of a process; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], int(fields[1]), int(fields[19])
