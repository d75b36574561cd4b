"""Optimisers and learning-rate schedules by name, all from torch."""

from __future__ import annotations

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from harness.config import TrainingConfig


def make_optimizer(parameters: list[torch.nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser of `config.optimizer`. Vectors (biases, normalisation) get no weight decay."""
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [
        {"params": group, "weight_decay": decay}
        for group, decay in ((matrices, config.weight_decay), (vectors, 0.0))
        if group
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.learning_rate)


def make_schedule(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, epochs: int, steps_per_epoch: int
) -> LRScheduler:
    """The schedule of `config.schedule`, stepped once per optimiser step.

    `one_cycle` follows Smith & Topin (2018) as torch has it, with a tenth of the steps for warming up; `exponential`
    multiplies by `config.decay` after each epoch.
    """
    total = epochs * steps_per_epoch
    if config.schedule == "one_cycle":
        # One step more than is taken: the last call of step() must stay inside. At least one step of warming up: with
        # none torch divides by zero.
        return OneCycleLR(optimizer, config.learning_rate, total_steps=total + 1, pct_start=max(0.1, 2 / (total + 1)))
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, total)
    if config.schedule == "exponential":
        return LambdaLR(optimizer, lambda step: config.decay ** (step // steps_per_epoch))
    return LambdaLR(optimizer, lambda step: 1.0)
