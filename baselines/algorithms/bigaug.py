"""BigAug: nine stacked transformations, each on half of the images.

Zhang et al., "Generalizing Deep Learning for Medical Image Segmentation to Unseen Domains via Deep Stacked
Transformation", IEEE TMI 39(7), 2020, doi:10.1109/TMI.2020.2973595.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.algorithms.changed_batches import ChangedBatches
from baselines.algorithms.draws import chosen, sent, uniform

# Taps of a blur on each side of its middle: over three standard deviations of the widest.
_RADIUS = 5
# Distance of the points between which the displacement is interpolated, in pixels.
_SPACING = 8


class BigAug(ChangedBatches):
    """Quality, appearance and place of images, in the paper's order; stands in the place of the bench's augmentation.

    There is no official code; the ranges are the paper's, compared with two public re-implementations:

    1. sharpness: unsharp masking, strength 10 to 30; blurs of 0.5 to 1 px and 0.5 px (as in MONAI's GaussianSharpen, by
       some of the authors; the paper does not say),
    2. blur: Gaussian, 0.25 to 1.5 px,
    3. noise: Gaussian, standard deviation 0.1 to 1,
    4. brightness: shift by up to 0.1,
    5. contrast: gamma 0.5 to 4.5, between the image's minimum and maximum,
    6. perturbation: factor 0.9 to 1.1 and shift by up to 0.1,
    7. rotation by up to 20 degrees, 8. scaling by 0.4 to 1.6,
    9. deformation: elastic, smoothness 10 to 13 px, strength 0 to 1000.

    The paper works on whitened volumes: noise and shifts are in units of the image's own standard deviation. In three
    dimensions smoothing leaves less of a deformation's noise than in two; the displacements here are those of three (up to
    about 3 px). The three of place are one resampling, images bilinear, masks nearest; the border is mirrored, as in the
    bench's standard augmentation. Images are clipped to [0, 1] at the end, masks stay 0 or 1.

    Args:
        probability: of each transformation for each image: 0.5, the paper's.
    """

    def __init__(self, modalities: Sequence[str], method: Callable[..., nn.Module], probability: float = 0.5) -> None:
        super().__init__(modalities, method, probability)

    def changed(self, batch: Any) -> Any:
        images, masks = self._moved(self._appearance(batch.images), batch.masks)
        return dataclasses.replace(batch, images=images.clamp(0, 1), masks=masks)

    def _amount(self, images: Tensor, low: float, high: float, neutral: float) -> Tensor:
        """(B, 1, 1, 1): a number from the range for the images that are chosen, what changes nothing for the others."""
        drawn = uniform(len(images), low, high, images.device)
        return torch.where(chosen(len(images), self.probability, images.device), drawn, neutral)

    def _appearance(self, images: Tensor) -> Tensor:
        variance, mean = torch.var_mean(images, (1, 2, 3), keepdim=True)
        std = (variance + 1e-6).sqrt()
        x = (images - mean) / std
        strength = self._amount(x, 10, 30, 0)
        once = _blurred(x, uniform(len(x), 0.5, 1, x.device))
        x = torch.where(strength > 0, once + strength * (once - _blurred(once, torch.full_like(strength, 0.5))), x)
        x = _blurred(x, self._amount(x, 0.25, 1.5, 0))
        x = x + self._amount(x, 0.1, 1, 0) * torch.randn_like(x)
        x = x + self._amount(x, -0.1, 0.1, 0)
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        extent = (high - low).clamp(min=1e-6)
        x = ((x - low) / extent) ** self._amount(x, 0.5, 4.5, 1) * extent + low
        perturbed = x * uniform(len(x), 0.9, 1.1, x.device) + uniform(len(x), -0.1, 0.1, x.device)
        x = torch.where(chosen(len(x), self.probability, x.device), perturbed, x)
        return x * std + mean

    def _moved(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        angle = self._amount(images, -math.pi / 9, math.pi / 9, 0)[..., 0]
        scale = self._amount(images, 0.4, 1.6, 1)[..., 0]
        # From a place in the output to that in the image, in pixels around the centre: turned, divided by the scale.
        down, across = (torch.arange(n, device=images.device) - (n - 1) / 2 for n in (height, width))
        y, x = torch.meshgrid(down, across, indexing="ij")
        shift = self._displacement(images)
        source_x = (angle.cos() * x - angle.sin() * y) / scale + shift[:, 0]
        source_y = (angle.sin() * x + angle.cos() * y) / scale + shift[:, 1]
        grid = torch.stack([source_x * 2 / width, source_y * 2 / height], -1)
        return (
            F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False),
            F.grid_sample(masks, grid, "nearest", "reflection", align_corners=False),
        )

    def _displacement(self, images: Tensor) -> Tensor:
        """(B, 2, H, W) in pixels: smoothed uniform noise."""
        count, (height, width) = len(images), images.shape[-2:]
        strength, smoothness = self._amount(images, 0, 1000, 0), uniform(count, 10, 13, images.device)
        points = sent(torch.randn(count, 2, height // _SPACING + 2, width // _SPACING + 2), images.device)
        smooth = _blurred(points, smoothness / _SPACING)
        # Of one pixel of the noise, uniform in [-1, 1], and what smoothing in three dimensions leaves of it.
        deviation = strength / math.sqrt(3) / (2 * math.sqrt(math.pi) * smoothness) ** 1.5
        smooth = smooth * deviation * (2 * math.sqrt(math.pi) * smoothness / _SPACING)
        return F.interpolate(smooth, (height, width), mode="bicubic", align_corners=True)


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Images (B, C, H, W) through Gaussians of their own standard deviations (B, 1, 1, 1) in pixels; 0: as they are."""
    count, channels, height, width = images.shape
    offset = torch.arange(-_RADIUS, _RADIUS + 1, device=images.device)
    kernel = (-(offset**2) / (2 * sigma.clamp(min=1e-3) ** 2)).exp()
    kernel = (kernel / kernel.sum(3, keepdim=True)).expand(-1, channels, -1, -1).reshape(-1, 1, 1, len(offset))
    x = F.pad(images, (_RADIUS,) * 4, mode="replicate").reshape(1, -1, height + 2 * _RADIUS, width + 2 * _RADIUS)
    x = F.conv2d(F.conv2d(x, kernel, groups=count * channels), kernel.transpose(2, 3), groups=count * channels)
    return x.view_as(images)
