"""What algorithms share that average a method's weights over the steps of training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_STATISTICS = ("running_mean", "running_var")


def averaged_tensors(method: nn.Module) -> dict[str, Tensor]:
    """All parameters, and batch norm's running statistics, by name. Other buffers are counters and states: not averaged."""
    statistics = {name: buffer for name, buffer in method.named_buffers() if name.rpartition(".")[2] in _STATISTICS}
    return {name: value.detach() for name, value in (dict(method.named_parameters()) | statistics).items()}


@torch.no_grad()
def move_towards(average: Sequence[Tensor], current: Sequence[Tensor], share: float) -> None:
    """In place: (1 - share) * average + share * current."""
    torch._foreach_lerp_(list(average), list(current), share)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """(P,) float32 of all numbers, a copy."""
    return torch.cat([tensor.detach().flatten().float() for tensor in tensors])


def views(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The parts of a vector (P,), in the shapes of `like`."""
    parts = vector.split([tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]
