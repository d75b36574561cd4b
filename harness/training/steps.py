"""One batch through a method: forward and backward in micro-batches that fit in memory."""

from __future__ import annotations

import torch


def _gradients(method: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def _restore_gradients(method: torch.nn.Module, kept: dict[str, torch.Tensor] | None) -> None:
    for name, parameter in method.named_parameters():
        parameter.grad = kept[name].clone() if kept and name in kept else None
