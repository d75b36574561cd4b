"""SIGTERM, as schedulers send it before they take a machine away: running trials keep their state and stop."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from harness.errors import StopExpired


class GracefulStop:
    """Whether the run was asked to stop, and by when it has to."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked = threading.Event()
        self.deadline = float("inf")

    def ask(self) -> None:
        if not self.asked.is_set():
            self.deadline = time.monotonic() + self.seconds
            self.asked.set()

    @property
    def expired(self) -> bool:
        return time.monotonic() > self.deadline

    @contextlib.contextmanager
    def on_sigterm(self, interrupt: bool = False) -> Iterator[None]:
        """Makes SIGTERM ask; a second one, and with `interrupt` the end of the time, raises StopExpired.

        Does nothing outside the main thread, where Python delivers no signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_term(number: int, frame: FrameType | None) -> None:
            if self.asked.is_set():
                raise StopExpired
            self.ask()
            if interrupt:
                signal.setitimer(signal.ITIMER_REAL, max(self.seconds, 1e-3))

        def on_alarm(number: int, frame: FrameType | None) -> None:
            raise StopExpired

        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
        signal.signal(signal.SIGTERM, on_term)
        signal.signal(signal.SIGALRM, on_alarm)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
