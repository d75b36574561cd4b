"""Optimisers and learning-rate schedules by name, all from torch."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from harness.config import TrainingConfig


def make_optimizer(
    parameters: Mapping[str, torch.nn.Parameter],
    config: TrainingConfig,
    learning_rate: float | Mapping[str, float] = 1.0,
) -> torch.optim.Optimizer:
    """The optimiser of `config.optimizer`. Vectors (biases, normalisation) get no weight decay.

    Args:
        parameters: name -> parameter, of those that train.
        learning_rate: factor on `config.learning_rate`, or patterns with factors: see harness.methods.contract.Stage.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for vectors, decay in ((False, config.weight_decay), (True, 0.0)):
        for name, parameter in parameters.items():
            if (parameter.ndim <= 1) == vectors:
                rate = config.learning_rate * _factor(name, learning_rate)
                groups.setdefault((rate, decay), []).append(parameter)
    # Fused: all parameters of a group in one operation.
    given: list[dict[str, Any]] = [
        {"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()
    ]
    if config.optimizer == "sgd":
        kind = _without_compiler(torch.optim.SGD)
        return kind(given, lr=config.learning_rate, momentum=0.9, nesterov=True, fused=True)
    kind = _without_compiler(torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW)
    return kind(given, lr=config.learning_rate, fused=True)


@cache
def _without_compiler(kind: type[torch.optim.Optimizer]) -> type[Any]:
    """The optimiser without the wrappers that torch needs to compile it. We never compile an optimiser.

    The wrappers import the compiler at the first call: 900 modules, and two seconds of every process that trains.
    """
    names = ("step", "zero_grad", "state_dict", "load_state_dict", "add_param_group")
    plain: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), plain | {"step": torch.no_grad()(plain["step"])})


def _factor(name: str, learning_rate: float | Mapping[str, float]) -> float:
    if not isinstance(learning_rate, Mapping):
        return learning_rate
    return next((factor for pattern, factor in learning_rate.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)


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
        rates = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, rates, total_steps=total + 1, pct_start=max(0.1, 2 / (total + 1)))
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, total)
    if config.schedule == "exponential":
        return LambdaLR(optimizer, lambda step: config.decay ** (step // steps_per_epoch))
    return LambdaLR(optimizer, lambda step: 1.0)
