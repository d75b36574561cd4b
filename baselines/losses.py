"""Losses for binary segmentation, on logits and 0/1 masks of shape (B, 1, H, W)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]


def soft_dice(logits: Tensor, masks: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice, averaged over images so that a small object weighs as much as a large one; a scalar in [0, 1].

    Milletari et al., "V-Net", 3DV 2016, with plain sums in the denominator. `smooth` (pixels) defines the value for
    two empty masks (0) and bounds the gradient.
    """
    probability = logits.sigmoid().flatten(1)
    reference = masks.flatten(1)
    both = (probability * reference).sum(1)
    return (1 - (2 * both + smooth) / (probability.sum(1) + reference.sum(1) + smooth)).mean()


def bce_dice(logits: Tensor, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Binary cross-entropy plus soft Dice, in float32 also under autocast: sums over pixels overflow half precision.

    Returns:
        The loss (scalar), and its two parts (detached).
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits, masks = logits.float(), masks.float()
        cross_entropy = F.binary_cross_entropy_with_logits(logits, masks)
        dice = soft_dice(logits, masks)
    return cross_entropy + dice, {"bce": cross_entropy.detach(), "dice": dice.detach()}


def bce(logits: Tensor, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Binary cross-entropy alone."""
    with torch.autocast(logits.device.type, enabled=False):
        value = F.binary_cross_entropy_with_logits(logits.float(), masks.float())
    return value, {"bce": value.detach()}


def dice(logits: Tensor, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Soft Dice alone."""
    with torch.autocast(logits.device.type, enabled=False):
        value = soft_dice(logits.float(), masks.float())
    return value, {"dice": value.detach()}


LOSSES: dict[str, Loss] = {"bce_dice": bce_dice, "bce": bce, "dice": dice}
