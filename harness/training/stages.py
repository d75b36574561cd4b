"""Which part of a method learns in a stage, and that the rest does not move."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from harness.errors import TrialFailed
from harness.methods.contract import Stage, is_chosen


def freeze_all_but(
    method: torch.nn.Module, patterns: Sequence[str], learnable: Collection[str]
) -> dict[str, torch.nn.Parameter]:
    """Sets `requires_grad` by the stage's patterns and returns what trains, by name.

    Args:
        patterns: shell patterns (fnmatch) on parameter names.
        learnable: names of the parameters that may train at all.

    Raises:
        TrialFailed: a pattern matches nothing, so nothing would train.
    """
    chosen = {}
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(is_chosen(name, patterns) and name in learnable)
        if parameter.requires_grad:
            chosen[name] = parameter
    if not chosen:
        raise TrialFailed(
            f"A stage trains {list(patterns)}, and {type(method).__name__} has no parameter of such a name that it leaves free."
        )
    return chosen


def train_mode(method: torch.nn.Module) -> None:
    """Train mode, except for parts whose parameters are all frozen: their running statistics must not move."""
    method.train()
    for module in method.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def epochs_per_stage(stages: Sequence[Stage], epochs: int) -> list[int]:
    """Divides the budget by the stages' shares, at least one epoch each; stages without gradient take none.

    >>> epochs_per_stage([Stage("decode", 3), Stage("joint", 1)], 8)
    [6, 2]
    """
    counts = [1 if stage.gradient else 0 for stage in stages]
    total = sum(stage.share for stage in stages if stage.gradient)
    for _ in range(epochs - sum(counts) if total else 0):
        # The next epoch goes to the stage that is furthest behind its share.
        behind = [epochs * stage.share / total - count for stage, count in zip(stages, counts, strict=True)]
        counts[max((i for i, stage in enumerate(stages) if stage.gradient), key=behind.__getitem__)] += 1
    return counts
