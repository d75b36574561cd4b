"""Weights of all modalities in one tensor, so that a mixed batch takes as many operations as one of a single modality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Chosen = int | Tensor
"""Which entries of a stack a batch meets: one for all its images, or (B,) int64, one for each."""


class Stack:
    """Tensors of one shape, one for each modality."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.all = torch.stack(list(tensors))
        self.each = list(self.all)  # views: taking one is no operation

    def __getitem__(self, chosen: Chosen) -> Tensor:
        """One tensor, or (B, ...) of them."""
        return self.each[chosen] if isinstance(chosen, int) else self.all.index_select(0, chosen)


class StackedLinear:
    """A linear layer for each modality: (B, N, in) -> (B, N, out)."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> None:
        self.weights, self.biases = Stack(weights), Stack(biases)

    def __call__(self, x: Tensor, chosen: Chosen) -> Tensor:
        weight, bias = self.weights[chosen], self.biases[chosen]
        if isinstance(chosen, int):
            return F.linear(x, weight, bias)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
