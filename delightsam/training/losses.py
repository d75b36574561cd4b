"""Losses of the segmentation stages. Logits and targets (B, 1, H, W); every loss is a scalar.

Joint losses, by name:

- "dice_bce": soft Dice (per image) + BCE + 0.5 patch BCE. The default: a cold decoder needs the BCE term to start.
- "paper": 0.8 soft Dice (over the batch) + 0.2 focal + 0.5 patch BCE.

A model without SP-Generator has no patch logits (None), and its loss no patch term.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH_WEIGHT = 0.5


def soft_dice_loss(logits: Tensor, target: Tensor, *, per_image: bool = False, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice of the sigmoid probabilities, in float32.

    Args:
        logits, target: (B, 1, H, W); the target holds 0 and 1.
        per_image: mean over each image's Dice; else sums run over the whole batch, so that large structures weigh more.
        smooth: added to numerator and denominator, in pixels.
    """
    probability = torch.sigmoid(logits.float()).flatten(1)
    target = target.float().flatten(1)
    dims = (1,) if per_image else (0, 1)
    overlap = (probability * target).sum(dims)
    total = probability.sum(dims) + target.sum(dims)
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def bce_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy over all pixels, in float32."""
    return F.binary_cross_entropy_with_logits(logits.float(), target.float())


def focal_loss(bce: Tensor, *, alpha: float = 0.8, gamma: float = 2.0) -> Tensor:
    """`alpha * (1 - exp(-bce)) ** gamma * bce` on the *mean* BCE of a batch: one factor for all pixels, as in UN-SAM."""
    return alpha * (1 - torch.exp(-bce)) ** gamma * bce


def patch_target(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """1 for every patch that holds any foreground: (B, 1, H, W) -> (B, 1, *grid), where `grid` divides (H, W)."""
    height, width = masks.shape[-2:]
    if height % grid[0] or width % grid[1]:
        raise ValueError(f"A mask of {height} x {width} pixels does not divide into {grid[0]} x {grid[1]} patches.")
    return F.max_pool2d(masks, (height // grid[0], width // grid[1]))


def dice_bce(logits: Tensor, patch_logits: Tensor | None, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    terms = {"dice": soft_dice_loss(logits, masks, per_image=True), "bce": bce_loss(logits, masks)}
    return _with_patches(terms["dice"] + terms["bce"], terms, patch_logits, masks)


def paper(logits: Tensor, patch_logits: Tensor | None, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    terms = {"dice": soft_dice_loss(logits, masks), "focal": focal_loss(bce_loss(logits, masks))}
    return _with_patches(0.8 * terms["dice"] + 0.2 * terms["focal"], terms, patch_logits, masks)


def _with_patches(
    loss: Tensor, terms: dict[str, Tensor], patch_logits: Tensor | None, masks: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Adds the patch term, where there is an SP-Generator; the terms come back without gradient."""
    if patch_logits is not None:
        terms["patch"] = bce_loss(patch_logits, patch_target(masks, (patch_logits.shape[-2], patch_logits.shape[-1])))
        loss = loss + PATCH_WEIGHT * terms["patch"]
    return loss, {name: value.detach() for name, value in terms.items()}


JOINT_LOSSES = {"dice_bce": dice_bce, "paper": paper}
