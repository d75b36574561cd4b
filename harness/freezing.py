"""Which part of a method learns in a stage, and that the rest does not move."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import torch

from harness.errors import TrialFailed


def freeze_all_but(method: torch.nn.Module, patterns: Sequence[str]) -> list[torch.nn.Parameter]:
    """Sets `requires_grad` by the stage's patterns and returns what trains.

    Raises:
        TrialFailed: a pattern matches nothing, so nothing would train.
    """
    chosen = []
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
        if parameter.requires_grad:
            chosen.append(parameter)
    if not chosen:
        raise TrialFailed(
            f"A stage trains {list(patterns)}, and no parameter of {type(method).__name__} has such a name."
        )
    return chosen


def train_mode(method: torch.nn.Module) -> None:
    """Train mode, except for parts whose parameters are all frozen: their running statistics must not move."""
    method.train()
    for module in method.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
