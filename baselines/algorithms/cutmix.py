"""CutMix: a box of each image and its mask is filled from another image.

Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019,
arXiv 1905.04899.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.changed_batches import ChangedBatches
from baselines.algorithms.draws import beta, chosen, partners, sent
from baselines.algorithms.settings import check_range


class CutMix(ChangedBatches):
    """CutMix for segmentation: the box is cut from the partner's mask too, which so stays 0 or 1.

    The box has the image's aspect ratio and a share 1 - lambda of its area, lambda from Beta(alpha, alpha); its centre is
    anywhere, and what lies outside the image is cut off (section 3.1). The partner is any other image of the same
    modality. Boxes are drawn for each image (the official code: one for a batch).

    Args:
        alpha: 1.0, which makes lambda uniform: the paper's in all experiments.
        probability: of an image being mixed. 1.0: the official code's for ImageNet; for CIFAR it has 0.5.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        method: Callable[..., nn.Module],
        alpha: float = 1.0,
        probability: float = 1.0,
    ) -> None:
        super().__init__(modalities, method, probability)
        check_range("CutMix", "alpha", alpha, 0.01)
        self.alpha = alpha

    def changed(self, batch: Any) -> Any:
        count, device = len(batch.images), batch.images.device
        height, width = batch.images.shape[-2:]
        partner = partners(batch, other_domain=False)
        side = torch.where(chosen(count, self.probability, device), (1 - beta(count, self.alpha, device)).sqrt(), 0.0)
        rows, columns = (_inside(side, length) for length in (height, width))
        box = rows.transpose(2, 3) & columns
        return dataclasses.replace(
            batch,
            images=torch.where(box, batch.images[partner], batch.images),
            masks=torch.where(box, batch.masks[partner], batch.masks),
        )


def _inside(side: Tensor, length: int) -> Tensor:
    """(B, 1, 1, length) bool: the pixels of an interval of a share `side` of the length, with its centre anywhere."""
    half = (side * length).floor() // 2
    centre = sent(torch.randint(length, side.shape), side.device)
    pixel = torch.arange(length, device=side.device)
    return (pixel >= centre - half) & (pixel < centre + half)
