"""The state of an unfinished fit, and the file that keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch


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
