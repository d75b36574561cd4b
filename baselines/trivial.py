"""Methods that need no network: what a trained one must beat.

They look at the training images once, without gradients, and keep what they learn in buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.losses import bce_dice
from baselines.stages import Stage

# Beyond any doubt, yet finite: sigmoid gives 0.99995.
_SURE = 10.0


class TrivialBaseline(nn.Module):
    """Common to the trivial baselines: one pass over the training images."""

    def stages(self) -> list[Stage]:
        return [Stage("observe", trainable=(), gradient=False)]

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        raise NotImplementedError

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The networks' loss of what is predicted, for comparison; there is nothing to descend on."""
        return bce_dice(self.predict(batch.images, batch.modality), batch.masks)


class OtsuThreshold(TrivialBaseline):
    """Each image is cut at its own Otsu threshold, in the channel and polarity that suit its modality.

    Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and Cybernetics
    9(1), 1979. From the training images it learns, per modality, which of grey, red, green, blue and saturation, and
    whether the bright or the dark side, has the highest mean Dice. A modality it never saw gets the best choice overall.
    """

    views = ("grey", "red", "green", "blue", "saturation")
    dice_sum: Tensor  # (K, views x 2) float32; column 2 v is the bright side of view v, 2 v + 1 its dark side
    count: Tensor  # (K,) int64

    def __init__(self, modalities: Sequence[str]) -> None:
        super().__init__()
        self.register_buffer("dice_sum", torch.zeros(len(modalities), 2 * len(self.views)))
        self.register_buffer("count", torch.zeros(len(modalities), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, batch: Any) -> None:
        masks = batch.masks.bool()
        bright, valid = _above_otsu(_views(batch.images))
        sides = torch.stack([bright, ~bright & valid], 2).flatten(1, 2)
        both = (sides & masks).flatten(2).sum(2)
        dice = 2 * both / (sides.flatten(2).sum(2) + masks.flatten(2).sum(2)).clamp(min=1)
        self.dice_sum.index_add_(0, batch.modality, dice.to(self.dice_sum.dtype))
        self.count.index_add_(0, batch.modality, torch.ones_like(batch.modality))

    def choices(self) -> Tensor:
        """(K,) int64: the column of `dice_sum` that each modality uses."""
        seen = (self.count > 0)[:, None]
        mean = self.dice_sum / self.count.clamp(min=1)[:, None]
        overall = mean.sum(0, keepdim=True)
        return torch.where(seen, mean, overall).argmax(1)

    @torch.no_grad()
    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], (B,) int64 -> logits (B, 1, H, W), all of one magnitude.

        An image of a single grey value has no threshold and no foreground.
        """
        choice = self.choices()[modality]
        rows = torch.arange(len(images), device=images.device)
        bright, valid = _above_otsu(_views(images)[rows, choice // 2][:, None])
        dark_side = (choice % 2 == 1)[:, None, None, None]
        foreground = torch.where(dark_side, ~bright, bright) & valid
        return torch.where(foreground, _SURE, -_SURE).to(images.dtype)


class MeanMask(TrivialBaseline):
    """Every image gets the mean training mask of its modality, cut where that gives the highest Dice.

    It shows how much of a score comes from where objects usually are. The cut (the level set of the mean mask with the
    highest expected Dice over the training images, a fraction in (0, 1)) replaces one half, above which a mean of
    scattered objects hardly ever rises.
    A modality it never saw gets the mean of all.

    Args:
        resolution: side of the square, in pixels, on which masks are averaged.
    """

    mask_sum: Tensor  # (K, 1, R, R) float32
    count: Tensor  # (K,) int64

    def __init__(self, modalities: Sequence[str], resolution: int = 128) -> None:
        super().__init__()
        self.register_buffer("mask_sum", torch.zeros(len(modalities), 1, resolution, resolution))
        self.register_buffer("count", torch.zeros(len(modalities), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, batch: Any) -> None:
        size = self.mask_sum.shape[-2:]
        masks = F.interpolate(batch.masks.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
        self.mask_sum.index_add_(0, batch.modality, masks)
        self.count.index_add_(0, batch.modality, torch.ones_like(batch.modality))

    @torch.no_grad()
    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W), (B,) int64 -> logits (B, 1, H, W): log odds of the mean mask over those of its cut."""
        total, count = self.mask_sum.sum(0, keepdim=True), self.count.sum()
        seen = (self.count > 0)[:, None, None, None]
        mean = torch.where(
            seen, self.mask_sum / self.count.clamp(min=1)[:, None, None, None], total / count.clamp(min=1)
        )
        logits = mean.logit(eps=1e-4) - _best_cut(mean).logit(eps=1e-4)
        logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits[modality].to(images.dtype)


def _views(images: Tensor) -> Tensor:
    """(B, 3, H, W) RGB -> (B, 5, H, W): the grey values a threshold may be set on, in [0, 1]."""
    images = images.float()
    red, green, blue = images.unbind(1)
    # ITU-R BT.601 luma, and the saturation of the HSV colour cone without the division that makes dark pixels noisy.
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([grey, red, green, blue, images.amax(1) - images.amin(1)], 1)


def _above_otsu(values: Tensor) -> tuple[Tensor, Tensor]:
    """(B, V, H, W) in [0, 1] -> which pixels lie above their image's Otsu threshold (bool, same shape), and whether
    there is a threshold, that is, more than one of 256 grey levels (bool, (B, V, 1, 1)).
    """
    levels = (values.clamp(0, 1) * 255).round().long()
    flat = levels.flatten(2).flatten(0, 1)
    offsets = torch.arange(len(flat), device=flat.device)[:, None] * 256
    histogram = torch.bincount((flat + offsets).flatten(), minlength=256 * len(flat)).view(-1, 256).double()
    below = histogram.cumsum(1)
    sums = (histogram * torch.arange(256, device=flat.device)).cumsum(1)
    pixels, total = below[:, -1:], sums[:, -1:]
    # Variance between the classes "level <= t" and "level > t", for every t at once; 0 where one of them is empty.
    spread = (total * below - sums * pixels) ** 2 / (below * (pixels - below)).clamp(min=1)
    best, threshold = spread.max(1)
    shape = (*levels.shape[:2], 1, 1)
    valid = (best > 0).view(shape)
    return (levels > threshold.view(shape)) & valid, valid


def _best_cut(mean: Tensor) -> Tensor:
    """(K, 1, R, R) mean masks -> (K, 1, 1, 1): the level above which a fixed mask has the highest expected Dice.

    For a mask of the n largest values, 2 x (sum of these) / (n + sum of all) is that Dice, up to the spread of sizes.
    """
    ordered = mean.flatten(1).sort(1, descending=True).values
    sizes = torch.arange(1, ordered.shape[1] + 1, device=mean.device)
    dice = 2 * ordered.cumsum(1) / (sizes + ordered.sum(1, keepdim=True))
    last = dice.argmax(1, keepdim=True)
    after = (last + 1).clamp(max=ordered.shape[1] - 1)
    # Half-way between the last value inside and the first outside, so that neither lies on the edge.
    return ((ordered.gather(1, last) + ordered.gather(1, after)) / 2)[..., None, None]
