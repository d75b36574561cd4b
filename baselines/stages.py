"""What a method tells the harness about its training; the harness reads these attributes and needs no common class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A part of training: `share` of the budget, parameters that match `trainable`, and whether gradients are used.

    Without gradients, the harness shows every training image once to `observe(batch)` instead. `learning_rate`, `views`
    and `scored` are those of harness.methods.contract.Stage.
    """

    name: str
    share: float = 1.0
    trainable: tuple[str, ...] = ("*",)
    gradient: bool = True
    learning_rate: float | Mapping[str, float] = 1.0
    views: int | None = None
    scored: bool = True
