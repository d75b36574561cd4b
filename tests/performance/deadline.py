"""A time by which a check must have ended: what no longer fits is left out and named, what takes too long is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


class TimeIsUp(BaseException):
    """Raised in the middle of a step at the deadline. No `Exception`: a step may catch those."""


class Deadline:
    """Steps until a deadline.

    Attributes:
        left_out: the names of steps that were not begun, or not ended.

    Args:
        seconds: from now on.
        reserved: so many of them are kept for the last step.
    """

    def __init__(self, seconds: float, reserved: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began, self._seconds, self._reserved = clock(), seconds, reserved
        self._longest: dict[str, float] = {}
        self.left_out: list[str] = []

    def spent(self) -> float:
        return self._clock() - self._began

    def left(self, last: bool = False) -> float:
        """Seconds that a step may take; the reserved ones are the last step's."""
        return self._seconds - self.spent() - (0.0 if last else self._reserved)

    def step(self, part: str, name: str, run: Callable[[], Result], last: bool = False) -> Result | None:
        """What `run` gives; None where there is less time than the longest step of the part took, or not enough."""
        left, began = self.left(last), self.spent()
        if left > max(self._longest.get(part, 0.0), 0.0):
            try:
                with _alarm(left):
                    result = run()
            except (TimeIsUp, subprocess.TimeoutExpired):
                pass
            else:
                self._longest[part] = max(self._longest.get(part, 0.0), self.spent() - began)
                return result
        self.left_out.append(name)
        print(f"{name}: left out, no time for it", flush=True)
        return None


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raises TimeIsUp in the block when the time is over; in the main thread, as Python's signals are."""

    def ring(*_: Any) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_within(command: Sequence[str], seconds: float, folder: Path) -> int:
    """The exit code of a command, which is ended together with what it started when it takes longer.

    Raises:
        TimeoutExpired: it was ended.
    """
    process = subprocess.Popen(command, cwd=folder, start_new_session=True)
    try:
        return process.wait(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
