"""GIN-IPA: random shallow networks change how images look, in another way from place to place.

Ouyang et al., "Causality-Inspired Single-Source Domain Generalization for Medical Image Segmentation", IEEE TMI 42(4),
2023, arXiv 2111.12525.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.algorithms.base import Algorithm
from baselines.algorithms.consistency import divergence, logits_of, loss_and_logits
from baselines.algorithms.draws import chosen, sent, uniform
from baselines.algorithms.settings import check_range

_VIEWS = 3
_KERNEL_SIZES = (1, 3)
_WIDTH = 2
# Control points of the blending map in each direction: 4, and one outside on each side (spacing: a quarter of the image).
_POINTS = 4


class GINIPA(Algorithm):
    """Global intensity non-linear augmentation (GIN) with interventional pseudo-correlation augmentation (IPA).

    - GIN: for each image a new random network of four layers (kernels 1 or 3, two channels within, weights and shifts from
      N(0, 1), leaky ReLU between), whose output is mixed with the image by a uniform weight and brought back to the
      image's Frobenius norm.
    - IPA: two GIN views are blended by a smooth map in [0, 1] of B-splines on random control points, and the other way
      round; so what lies in one place and what in another get unrelated looks.
    - The loss is that of the first blended view; predictions on both and on a third view, of GIN alone, are held together
      by KL(their mean | each).

    All sizes are the official code's. It standardises whole scans; here each image is standardised over its pixels and
    channels before, and brought back after. Views are not clipped, as in the official code: they can leave [0, 1]. Masks
    stay as they are. Costs about three passes instead of one (four where a method lacks `loss_and_logits`).

    Args:
        layers: 4, of the random network.
        consistency: weight of the divergence, averaged over pixels and the two classes: 10, the official code's.
        probability: of an image being changed; the paper changes all. 0: the method alone, bit for bit.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        method: Callable[..., nn.Module],
        layers: int = 4,
        consistency: float = 10.0,
        probability: float = 1.0,
    ) -> None:
        super().__init__(modalities, method)
        check_range("GINIPA", "layers", layers, 2)
        check_range("GINIPA", "consistency", consistency, 0)
        check_range("GINIPA", "probability", probability, 0, 1)
        self.layers, self.consistency, self.probability = layers, consistency, probability

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any]]:
        if self.probability == 0:
            return super().training_loss(batch, step)
        first, *others = self.views(batch.images)
        changed = dataclasses.replace(batch, images=first)
        if self.consistency == 0:
            return super().training_loss(changed, step)
        loss, parts, logits = loss_and_logits(self.method, changed, step)
        logits = torch.cat([logits, logits_of(self.method, others, batch)])
        apart = divergence(logits, _VIEWS, from_mean=True) / 2  # the mean over two classes
        return loss + self.consistency * apart, {**parts, "consistency": apart.detach()}

    @torch.no_grad()
    def views(self, images: Tensor) -> list[Tensor]:
        """Three views of images (B, 3, H, W) in [0, 1]: two blended ones and one of GIN alone."""
        height, width = images.shape[-2:]
        with torch.autocast(images.device.type, enabled=False):
            variance, mean = torch.var_mean(images, (1, 2, 3), keepdim=True)
            std = (variance + 1e-6).sqrt()
            x = (images - mean) / std
            one, two, third = (global_intensity(x, self.layers) for _ in range(_VIEWS))
            share = blending_map(len(images), height, width, images.device)
            views = [torch.lerp(two, one, share), torch.lerp(one, two, share), third]
            change = chosen(len(images), self.probability, images.device)
            return [torch.where(change, view * std + mean, images) for view in views]


def global_intensity(images: Tensor, layers: int) -> Tensor:
    """GIN of standardised images (B, 3, H, W): each through a random network of its own."""
    count, channels, height, width = images.shape
    x = images.reshape(1, -1, height, width)
    sizes = [channels, *[_WIDTH] * (layers - 1), channels]
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        kernel = _KERNEL_SIZES[int(torch.randint(len(_KERNEL_SIZES), ()))]
        weight = sent(torch.randn(count * outputs, inputs, kernel, kernel), images.device)
        shift = sent(torch.randn(count * outputs), images.device)
        x = F.conv2d(x, weight, shift, padding=kernel // 2, groups=count)
        if layer < layers - 1:
            x = F.leaky_relu(x)
    mixed = torch.lerp(images, x.view_as(images), uniform(count, 0, 1, images.device))
    return mixed * (_norm(images) / (_norm(mixed) + 1e-5))


def blending_map(count: int, height: int, width: int, device: torch.device) -> Tensor:
    """(count, 1, H, W) smooth random maps, each from 0 to 1: quadratic B-splines on Gaussian control points."""
    points = sent(torch.randn(count, 1, _POINTS + 2, _POINTS + 2), device)
    maps = _spline(height, device) @ points @ _spline(width, device).T
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-12)


def _spline(length: int, device: torch.device) -> Tensor:
    """(length, points) weights of the control points in each pixel; they sum to 1."""
    position = (torch.arange(length, device=device) + 0.5) / length * _POINTS + 0.5
    distance = (position[:, None] - torch.arange(_POINTS + 2, device=device)).abs()
    near, far = 0.75 - distance.square(), (1.5 - distance).clamp(min=0).square() / 2
    return torch.where(distance < 0.5, near, far)


def _norm(images: Tensor) -> Tensor:
    return images.square().sum((1, 2, 3), keepdim=True).sqrt()
