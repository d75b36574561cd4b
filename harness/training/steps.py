"""One epoch of training: batches, micro-batches that fit in memory, optimiser steps."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from harness.config.schema import TrainingConfig
from harness.data.batches.augmentation import Augmentation
from harness.data.batches.loader import Batch, EpochLoader
from harness.data.batches.versions import FixedVersions
from harness.errors import TrialFailed
from harness.hardware import autocast, is_out_of_memory
from harness.methods.adapter import MethodAdapter
from harness.methods.contract import Stage, Step
from harness.training.checkpoint import FitState
from harness.training.recording import RecordedPasses
from harness.training.stages import train_mode


@dataclass(frozen=True)
class Trainer:
    """What one stage trains with.

    Attributes:
        parameters: those that learn in this stage, by name.
        epochs: of this stage.
        recorded: None: each operation is launched by itself.
    """

    method: MethodAdapter
    stage: Stage
    epochs: int
    parameters: Mapping[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    config: TrainingConfig
    device: torch.device
    batches: StageBatches
    recorded: RecordedPasses | None = None

    @property
    def learning_rate(self) -> float:
        """The highest of the parameter groups'."""
        return float(max(group["lr"] for group in self.optimizer.param_groups))


class StageBatches:
    """The batches of a stage's epochs, augmented as its `views` say."""

    def __init__(self, loader: EpochLoader, augmentation: Augmentation, views: int | None) -> None:
        self._loader, self._augmentation, self._views = loader, augmentation, views
        self._versions = FixedVersions(loader, augmentation, views) if views else None

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, epoch_in_stage: int) -> Iterator[Batch]:
        if self._versions is not None and self._views:
            yield from self._versions.epoch(epoch, epoch_in_stage % self._views)
        elif self._views == 0:
            yield from self._loader.epoch(epoch)
        else:
            yield from map(self._augmentation, self._loader.epoch(epoch))


def train_epoch(trainer: Trainer, state: FitState) -> float:
    """One pass over the training images; the mean of the batches' losses. They are read once, at its end: a loss that is
    read makes the program wait for the device.

    Raises:
        TrialFailed: the loss is NaN or infinite, or not even one image fits in memory.
    """
    train_mode(trainer.method.module)
    losses: list[torch.Tensor] = []
    accumulation, batches = trainer.config.accumulation, len(trainer.batches)
    steps_per_epoch = math.ceil(batches / accumulation)
    first = state.epoch_in_stage * steps_per_epoch
    trainer.optimizer.zero_grad(set_to_none=True)
    for number, batch in enumerate(trainer.batches.epoch(state.epoch, state.epoch_in_stage)):
        index, total = first + number // accumulation, trainer.epochs * steps_per_epoch
        step = Step(index, total, state.epoch, trainer.stage.name, recorded=trainer.recorded is not None)
        # The last group of an epoch may hold fewer batches.
        group = min(accumulation, batches - number // accumulation * accumulation)
        losses.append(_backward_within_memory(batch, step, 1.0 / group, trainer, state))
        state.images_seen += len(batch)
        if (number + 1) % accumulation == 0 or number + 1 == batches:
            _optimizer_step(trainer)
            trainer.method.after_step(step)
    return _mean_loss(losses, first, trainer, state)


def _mean_loss(losses: list[torch.Tensor], first: int, trainer: Trainer, state: FitState) -> float:
    values = torch.stack(losses).tolist()
    for number, value in enumerate(values):
        if not math.isfinite(value):
            step = first + number // trainer.config.accumulation
            raise TrialFailed(
                f"The training loss became {value} in epoch {state.epoch + 1}, step {step + 1} (stage"
                f" {trainer.stage.name}). Try a smaller training.learning_rate, training.clip_norm=1, or training.amp=off."
            )
    return float(np.mean(values))


def _optimizer_step(trainer: Trainer) -> None:
    trainer.scaler.unscale_(trainer.optimizer)
    if trainer.config.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(trainer.parameters.values(), trainer.config.clip_norm)
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.schedule.step()


def _backward_within_memory(batch: Batch, step: Step, weight: float, trainer: Trainer, state: FitState) -> torch.Tensor:
    """Forward and backward of a batch, in micro-batches that are halved until they fit.

    Gradients of earlier batches of the same accumulation group are put back before a second attempt.
    """
    key = None if trainer.recorded is None else trainer.method.recording_key(batch, step)
    if trainer.recorded is not None and key is not None and state.micro_batch >= len(batch):
        with autocast(trainer.device, trainer.config.amp):
            batch = trainer.method.prepared(batch, step)
        loss = trainer.recorded(batch, key, lambda part: _backward(part, step, weight, trainer, len(part)))
        if loss is not None:
            return loss
    module = trainer.method.module
    kept = _gradients(module) if trainer.config.accumulation > 1 else None
    while True:
        try:
            return _backward(batch, step, weight, trainer, state.micro_batch)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if state.micro_batch == 1:
                raise TrialFailed(
                    f"Out of memory with a single image of {batch.images.shape[-1]} px: use a smaller training.image_size."
                ) from error
        # Outside the except block, where the traceback no longer holds the tensors.
        state.micro_batch = max(1, min(state.micro_batch, len(batch)) // 2)
        _restore_gradients(module, kept)
        gc.collect()
        if trainer.device.type == "cuda":
            torch.cuda.empty_cache()


def _backward(batch: Batch, step: Step, weight: float, trainer: Trainer, micro_batch: int) -> torch.Tensor:
    """The batch's loss, left on the device."""
    losses = []
    for part in batch.chunks(micro_batch):
        with autocast(trainer.device, trainer.config.amp):
            loss = trainer.method.loss(trainer.method.prepared(part, step), step)
        share = len(part) / len(batch)
        trainer.scaler.scale(_times(loss, share * weight)).backward()
        losses.append(_times(loss.detach().float(), share))
    return sum(losses[1:], start=losses[0])


def _times(value: torch.Tensor, factor: float) -> torch.Tensor:
    return value if factor == 1 else value * factor


def _gradients(method: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def _restore_gradients(method: torch.nn.Module, kept: dict[str, torch.Tensor] | None) -> None:
    for name, parameter in method.named_parameters():
        parameter.grad = kept[name].clone() if kept and name in kept else None
