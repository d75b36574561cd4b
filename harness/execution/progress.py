"""One display for a whole run: live bars on a terminal, plain lines elsewhere (logs, CI)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from harness.training.epoch_result import EpochResult


# What is shown here and, for people who look later, written to the run's log.
events = logging.getLogger("harness.events")


class Follower(Protocol):
    """Is called as the display is; see harness/execution/trackers."""

    def start(self, trial_id: str) -> None: ...

    def update(self, trial_id: str, epoch: EpochResult | None) -> None: ...

    def end_trial(self, trial_id: str, state: str) -> None: ...


class ProgressDisplay:
    """Shows how far each running trial and the whole run are.

    Off a terminal a line is printed when a trial starts and ends, and at most every 30 s for a trial that goes on.
    """

    LINE_EVERY_SECONDS = 30.0

    def __init__(self, total: int, console: Console | None = None, followers: Sequence[Follower] = ()) -> None:
        self.console = console or Console(stderr=True)
        self.followers = followers
        self.total, self.ended = total, 0
        self.labels: dict[str, str] = {}
        self.started: dict[str, float] = {}
        self.last_line: dict[str, float] = {}
        self.tasks: dict[str, TaskID] = {}
        self.live = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.whole = self.live.add_task("trials", total=total, note="")

    def __enter__(self) -> ProgressDisplay:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def start(self, trial_id: str, label: str) -> None:
        if trial_id in self.labels:
            return
        self.labels[trial_id], self.started[trial_id] = label, time.monotonic()
        self.last_line[trial_id] = time.monotonic()
        self.tasks[trial_id] = self.live.add_task(label, total=None, note="starting")
        for follower in self.followers:
            follower.start(trial_id)
        events.info("start  %s", label)
        self._line(f"start  {label}")

    def update(self, trial_id: str, epoch: EpochResult | None) -> None:
        """`epoch` is what a trial reports: None when its test begins."""
        for follower in self.followers:
            follower.update(trial_id, epoch)
        if epoch is None:
            self.live.update(self.tasks[trial_id], note="testing")
            return
        note = f"loss {epoch.train_loss:.3f}  dice {epoch.dice:.3f}"
        self.live.update(self.tasks[trial_id], total=epoch.epochs, completed=epoch.epoch, note=note)
        if time.monotonic() - self.last_line[trial_id] >= self.LINE_EVERY_SECONDS:
            self.last_line[trial_id] = time.monotonic()
            self._line(f"       {self.labels[trial_id]}: epoch {epoch.epoch}/{epoch.epochs}  {note}")

    def again(self, trial_id: str, cause: str) -> None:
        """The trial's try died of `cause` and another one follows."""
        if trial_id in self.tasks:
            self.live.update(self.tasks[trial_id], note="starting again")
            text = f"again  {self.labels[trial_id]}\n       {cause}"
            events.warning(text)
            if self.console.is_terminal:
                self.live.console.print(text, style="yellow", markup=False)
            else:
                self._line(text)

    def end(self, trial_id: str, state: str, reason: str | None) -> None:
        if trial_id not in self.tasks:
            return
        for follower in self.followers:
            follower.end_trial(trial_id, state)
        self.live.remove_task(self.tasks.pop(trial_id))
        self.ended += 1
        self.live.advance(self.whole)
        seconds = time.monotonic() - self.started[trial_id]
        text = f"{state:6s} {self.labels[trial_id]}  {seconds:.0f} s  ({self.ended}/{self.total})"
        if reason:
            text += f"\n       {reason}"
        events.log(logging.INFO if state == "done" else logging.WARNING, text)
        if self.console.is_terminal:
            if state != "done":
                self.live.console.print(text, style="red", markup=False)
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        if not self.console.is_terminal:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
