"""One epoch of training: batches, micro-batches that fit in memory, optimiser steps."""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from harness.config.schema import TrainingConfig
from harness.data.batches.augmentation import Augmentation
from harness.data.batches.loader import Batch, EpochLoader
from harness.errors import TrialFailed
from harness.hardware import autocast, is_out_of_memory
from harness.methods.adapter import MethodAdapter
from harness.methods.contract import Stage, Step
from harness.training.checkpoint import FitState
from harness.training.stages import train_mode


@dataclass(frozen=True)
class Trainer:
    """What one stage trains with.

    Attributes:
        parameters: those that learn in this stage, by name.
        epochs: of this stage.
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

    @property
    def learning_rate(self) -> float:
        """The highest of the parameter groups'."""
        return float(max(group["lr"] for group in self.optimizer.param_groups))


def train_epoch(trainer: Trainer, loader: EpochLoader, augmentation: Augmentation, state: FitState) -> float:
    """One pass over the training images; the mean of the batches' losses.

    Raises:
        TrialFailed: the loss is NaN or infinite, or not even one image fits in memory.
    """
    train_mode(trainer.method.module)
    losses, accumulation, batches = [], trainer.config.accumulation, len(loader)
    steps_per_epoch = math.ceil(batches / accumulation)
    first = state.epoch_in_stage * steps_per_epoch
    trainer.optimizer.zero_grad(set_to_none=True)
    for number, batch in enumerate(loader.epoch(state.epoch)):
        batch = _augmented(batch, trainer, augmentation, state)
        step = Step(first + number // accumulation, trainer.epochs * steps_per_epoch, state.epoch, trainer.stage.name)
        # The last group of an epoch may hold fewer batches.
        group = min(accumulation, batches - number // accumulation * accumulation)
        losses.append(_backward_within_memory(batch, step, 1.0 / group, trainer, state))
        state.images_seen += len(batch)
        if (number + 1) % accumulation == 0 or number + 1 == batches:
            _optimizer_step(trainer)
            trainer.method.after_step(step)
    return float(np.mean(losses))


def _augmented(batch: Batch, trainer: Trainer, augmentation: Augmentation, state: FitState) -> Batch:
    """The batch on its device, augmented as the stage's `views` say."""
    views = trainer.stage.views
    if views is None:
        return augmentation(batch.to(trainer.device))
    if views > 0:
        # On the CPU: a GPU draws other random numbers.
        batch = augmentation.version(batch, state.epoch_in_stage % views)
    return batch.to(trainer.device)


def _optimizer_step(trainer: Trainer) -> None:
    trainer.scaler.unscale_(trainer.optimizer)
    if trainer.config.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(trainer.parameters.values(), trainer.config.clip_norm)
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.schedule.step()


def _backward_within_memory(batch: Batch, step: Step, weight: float, trainer: Trainer, state: FitState) -> float:
    """Forward and backward of a batch, in micro-batches that are halved until they fit.

    Gradients of earlier batches of the same accumulation group are put back before a second attempt.
    """
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


def _backward(batch: Batch, step: Step, weight: float, trainer: Trainer, micro_batch: int) -> float:
    total = 0.0
    for part in batch.chunks(micro_batch):
        with autocast(trainer.device, trainer.config.amp):
            loss = trainer.method.loss(part, step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrialFailed(
                f"The training loss became {value} in epoch {step.epoch + 1}, step {step.index + 1} (stage {step.stage})."
                " Try a smaller training.learning_rate, training.clip_norm=1, or training.amp=off."
            )
        share = len(part) / len(batch)
        trainer.scaler.scale(loss * (share * weight)).backward()
        total += value * share
    return total


def _gradients(method: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def _restore_gradients(method: torch.nn.Module, kept: dict[str, torch.Tensor] | None) -> None:
    for name, parameter in method.named_parameters():
        parameter.grad = kept[name].clone() if kept and name in kept else None
