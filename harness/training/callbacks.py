"""What happens after each epoch, in the order of the list that `fit` is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import TrialInterrupted
from harness.training.checkpoint import CheckpointFile, FitState
from harness.training.epoch_result import EpochResult
from harness.training.steps import Trainer


class Callback(Protocol):
    """May raise to end the fit."""

    def after_epoch(self, state: FitState, trainer: Trainer, epoch: EpochResult) -> None: ...


@dataclass
class StopRequest:
    """Ends the fit after an epoch when it is asked to; the last epoch is let go on.

    `CheckpointWriter` asks first, so that the state is kept before the fit ends: the answer holds for the epoch.
    """

    should_stop: Callable[[], bool]
    answered: int = 0
    answer: bool = False

    def ask(self, epoch: EpochResult) -> bool:
        if self.answered != epoch.epoch:
            self.answered, self.answer = epoch.epoch, not epoch.is_last and self.should_stop()
        return self.answer

    def after_epoch(self, state: FitState, trainer: Trainer, epoch: EpochResult) -> None:
        """Raises TrialInterrupted when it was asked to stop."""
        if self.ask(epoch):
            raise TrialInterrupted(f"asked to stop after epoch {epoch.epoch} of {epoch.epochs}")


@dataclass
class CheckpointWriter:
    """Keeps the state of an unfinished fit: now and then, and before a stop."""

    file: CheckpointFile
    stop: StopRequest

    def after_epoch(self, state: FitState, trainer: Trainer, epoch: EpochResult) -> None:
        stops = self.stop.ask(epoch)
        if not epoch.is_last and (stops or self.file.is_due):
            self.file.save(state, trainer.method.module, trainer.optimizer, trainer.schedule, trainer.scaler)
        if epoch.is_last or stops:
            self.file.finish()


@dataclass
class StatusReporter:
    """Tells what became of the epoch, when its state is kept: it may raise to end the fit."""

    report: Callable[[EpochResult], None]

    def after_epoch(self, state: FitState, trainer: Trainer, epoch: EpochResult) -> None:
        self.report(epoch)


def usual_callbacks(
    folder: Path,
    *,
    report: Callable[[EpochResult], None] = lambda epoch: None,
    checkpoint_seconds: float = 0.0,
    should_stop: Callable[[], bool] = lambda: False,
) -> Sequence[Callback]:
    """Those of a trial.

    Args:
        folder: where the checkpoint of an unfinished fit lives.
        checkpoint_seconds: epochs shorter than this share a checkpoint, where writing it would cost more than a kill loses.
        should_stop: asked after each epoch.
    """
    stop = StopRequest(should_stop)
    return CheckpointWriter(CheckpointFile.in_folder(folder, checkpoint_seconds), stop), StatusReporter(report), stop
