"""Random draws for the images of a batch, from torch's generator on the CPU: the same on every device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; on a CPU itself. The program does not wait until a GPU has it."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def partners(batch: Any, *, other_domain: bool) -> Tensor:
    """Another image of the same modality for each image, at random; the image itself where there is no other.

    Args:
        other_domain: an image of another domain is taken where there is one.

    Returns:
        (B,) int64 on the batch's device: positions in the batch. Several images may have the same partner.
    """
    count, device = len(batch.modality), batch.modality.device
    # Of the candidates with the best rank, the one with the highest number from [0, 1).
    rank = sent(torch.rand(count, count), device)
    rank += 2 * (batch.modality[:, None] == batch.modality)
    if other_domain:
        rank += (batch.modality[:, None] == batch.modality) & (batch.domain[:, None] != batch.domain)
    rank.fill_diagonal_(1.5)
    return rank.argmax(1)


def chosen(count: int, probability: float, device: torch.device) -> Tensor:
    """(count, 1, 1, 1) bool, each true with this probability."""
    return sent(torch.rand(count, 1, 1, 1) < probability, device)


def uniform(count: int, low: float, high: float, device: torch.device) -> Tensor:
    """(count, 1, 1, 1) float32 in [low, high)."""
    return sent(torch.rand(count, 1, 1, 1) * (high - low) + low, device)


def beta(count: int, alpha: float, device: torch.device) -> Tensor:
    """(count, 1, 1, 1) float32 in [0, 1] from Beta(alpha, alpha), alpha at least 0.01."""
    # In double precision: for small alphas both Gamma variables behind it underflow in single precision, which gives 0.5.
    concentration = torch.tensor(alpha, dtype=torch.float64)
    return sent(torch.distributions.Beta(concentration, concentration).sample((count, 1, 1, 1)).float(), device)
