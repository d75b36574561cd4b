"""Mixup: each image and its mask become a weighted mean of two.

Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv 1710.09412.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from baselines.algorithms.changed_batches import ChangedBatches
from baselines.algorithms.draws import beta, chosen, partners
from baselines.algorithms.settings import check_range


class Mixup(ChangedBatches):
    """Mixup for segmentation: masks are mixed pixel by pixel, so they are soft, with values in [0, 1].

    Equation (1) of the paper, with the mask in the place of the label. For cross-entropy the loss of the mixed mask is the
    mixture of the two losses, as in the official code; soft Dice and De-LightSAM's patch term (the maximum of the mask in
    a patch) take the soft mask as it is. The partner is any other image of the same modality, since mixing a skin lesion
    with a radiograph teaches neither. Weights are drawn for each image (the official code: one for a batch). Mixed images
    stay in [0, 1].

    Args:
        alpha: the weight is from Beta(alpha, alpha). 0.2: the paper's for ImageNet (section 3.1: 0.1 to 0.4 help).
        probability: of an image being mixed; the paper mixes all.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        method: Callable[..., nn.Module],
        alpha: float = 0.2,
        probability: float = 1.0,
    ) -> None:
        super().__init__(modalities, method, probability)
        check_range("Mixup", "alpha", alpha, 0.01)
        self.alpha = alpha

    def changed(self, batch: Any) -> Any:
        count, device = len(batch.images), batch.images.device
        partner = partners(batch, other_domain=False)
        own = torch.where(chosen(count, self.probability, device), beta(count, self.alpha, device), 1.0)
        return dataclasses.replace(
            batch,
            images=own * batch.images + (1 - own) * batch.images[partner],
            masks=own * batch.masks + (1 - own) * batch.masks[partner],
        )
