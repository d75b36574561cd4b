"""The state of an unfinished fit, and the file that keeps it: `training.pt`."""

from __future__ import annotations

import copy
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from harness.files import atomic_write_bytes

log = logging.getLogger(__name__)


@dataclass
class FitState:
    """Everything an interrupted trial needs to go on, beside the weights."""

    stage: int = 0
    epoch_in_stage: int = 0
    epoch: int = 0
    best_score: float | None = None
    best_epoch: int = 0
    best_weights: dict[str, torch.Tensor] | None = None
    epochs_without_gain: int = 0
    micro_batch: int = 0
    seconds: float = 0.0
    images_seen: int = 0
    curves: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class CheckpointFile:
    """The checkpoint of one fit. A thread writes it from a snapshot: the next epoch does not wait for the disk.

    Attributes:
        every_seconds: epochs shorter than this share a checkpoint; 0: each epoch is on the disk before the next begins.
        started: clock time at which this attempt began.
    """

    path: Path
    every_seconds: float
    started: float = field(default_factory=time.monotonic)
    written: float = field(default_factory=time.monotonic)
    writing: Future[None] | None = None

    @classmethod
    def in_folder(cls, folder: Path, every_seconds: float = 0.0) -> CheckpointFile:
        """That of the fit whose checkpoints lie in `folder`."""
        return cls(folder / "training.pt", every_seconds)

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self.written >= self.every_seconds

    def save(
        self,
        state: FitState,
        method: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        scaler: torch.amp.GradScaler,
    ) -> None:
        """Takes a snapshot, and begins to write it when the one before is written.

        Raises:
            OSError: that one could not be written.
        """
        state = copy.copy(state)
        state.seconds += time.monotonic() - self.started
        weights = method.state_dict()
        if state.best_weights is not None:
            state.best_weights = _sharing(state.best_weights, weights)
        content = {
            "state": vars(state),
            "method": weights,
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "scaler": scaler.state_dict(),
        }
        # Through memory: torch reports a full disk as a RuntimeError that does not say so.
        buffer = BytesIO()
        torch.save(content, buffer)
        self.finish()
        self.writing = _writer().submit(atomic_write_bytes, self.path, buffer.getvalue())
        if self.every_seconds == 0:
            self.finish()
        self.written = time.monotonic()

    def finish(self) -> None:
        """Waits until what was begun is on the disk.

        Raises:
            OSError: it could not be written.
        """
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()

    def load(self, method: torch.nn.Module) -> tuple[FitState, dict[str, Any]] | None:
        """The state, with the weights put into `method`, and what optimiser, schedule and scaler go on from."""
        if not self.path.exists():
            return None
        # Our own file, written atomically: a fault in it is a fault of the disk, and training anew the remedy.
        try:
            saved = dict(torch.load(self.path, map_location="cpu", weights_only=True))
        except (OSError, MemoryError):
            raise
        except Exception as error:
            log.warning("The checkpoint %s can't be read (%s): training starts anew.", self.path, error)
            self.path.unlink()
            return None
        method.load_state_dict(saved["method"])
        return FitState(**saved["state"]), saved


@cache
def _writer() -> ThreadPoolExecutor:
    """One thread for all fits of a process, which have one after another: a process ends when it has written."""
    return ThreadPoolExecutor(1, thread_name_prefix="checkpoint")


def _sharing(tensors: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same values; those with the bits of the other of their name are the other itself, which `torch.save` writes once.
    After an epoch that is the best so far all are, and in a stage those of frozen parts."""
    return {name: others[name] if _same_bits(value, others.get(name)) else value for name, value in tensors.items()}


def _same_bits(value: torch.Tensor, other: torch.Tensor | None) -> bool:
    if other is None or (value.dtype, value.shape) != (other.dtype, other.shape):
        return False
    return torch.equal(value.flatten().view(torch.uint8), other.detach().flatten().view(torch.uint8))
