"""RandConv: images seen through random convolutions, with equal predictions on all of them.

Xu et al., "Robust and Generalizable Visual Representation Learning via Random Convolutions", ICLR 2021, arXiv 2007.13003.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.algorithms.base import Algorithm
from baselines.algorithms.consistency import divergence, logits_of, loss_and_logits
from baselines.algorithms.draws import sent
from baselines.algorithms.settings import check_range

_VIEWS = 3
# Of the ImageNet training images: the convolution works on values around zero, as in the paper.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class RandConv(Algorithm):
    """Three views of a batch, each through one random convolution; the loss on the first, and consistency of all three.

    Algorithm 1 of the paper: a kernel of random size with weights from N(0, 1 / (3 k^2)) (He), no bias, new for each view
    and batch; the consistency is the Jensen-Shannon divergence of the predictions (KL of each with their mean), here
    averaged over pixels. The official code makes the second and third view out of the first; the paper, and this, out of the image.
    Views are not clipped, as in the paper: they can leave [0, 1]. Masks stay as they are.

    Costs about three passes instead of one (four where a method lacks `loss_and_logits`).

    Args:
        kernel_sizes: one is drawn for each view, all alike; 1, 3, 5, 7: the paper's RC 1-7.
        mixing: a view is a * convolved + (1 - a) * image, a uniform in [0, 1] (the paper's RC_mix).
        probability: of a view being convolved at all. 1.0 goes with mixing, 0.5 with mixing=false (RC_img, p = 0.5).
        consistency: weight of the divergence: 10 with mixing, 5 without: the paper's for digits (official script).

    Raises:
        ValueError: a setting out of range, an even kernel size.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        modalities: Sequence[str],
        method: Callable[..., nn.Module],
        kernel_sizes: Sequence[int] = (1, 3, 5, 7),
        mixing: bool = True,
        probability: float = 1.0,
        consistency: float = 10.0,
    ) -> None:
        super().__init__(modalities, method)
        check_range("RandConv", "probability", probability, 0, 1)
        check_range("RandConv", "consistency", consistency, 0)
        if not kernel_sizes or any(size < 1 or size % 2 == 0 for size in kernel_sizes):
            raise ValueError(f"RandConv: expected odd kernel_sizes, found {list(kernel_sizes)}.")
        self.kernel_sizes, self.mixing = tuple(kernel_sizes), mixing
        self.probability, self.consistency = probability, consistency
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any]]:
        if self.probability == 0:
            return super().training_loss(batch, step)
        first, *others = (self.view(batch.images) for _ in range(_VIEWS if self.consistency else 1))
        changed = dataclasses.replace(batch, images=first)
        if not others:
            return super().training_loss(changed, step)
        loss, parts, logits = loss_and_logits(self.method, changed, step)
        apart = divergence(torch.cat([logits, logits_of(self.method, others, batch)]), _VIEWS)
        return loss + self.consistency * apart, {**parts, "consistency": apart.detach()}

    @torch.no_grad()
    def view(self, images: Tensor) -> Tensor:
        """One random view of images (B, 3, H, W) in [0, 1]."""
        if torch.rand(()) >= self.probability:
            return images
        size = self.kernel_sizes[int(torch.randint(len(self.kernel_sizes), ()))]
        weight = sent(torch.randn(3, 3, size, size) / math.sqrt(3 * size**2), images.device)
        with torch.autocast(images.device.type, enabled=False):
            x = (images - self.mean) / self.std
            convolved = F.conv2d(x, weight, padding=size // 2)
            if self.mixing:
                convolved = torch.lerp(x, convolved, sent(torch.rand(()), images.device))
            return convolved * self.std + self.mean
