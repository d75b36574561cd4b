"""IRM: one last layer that is the best for every training domain.

Arjovsky et al., "Invariant Risk Minimization", 2019, arXiv 1907.02893.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.algorithms.consistency import loss_and_logits
from baselines.algorithms.domains import DomainPenalty, Domains, comparable, mean


class IRM(DomainPenalty):
    """IRMv1: adds the squared derivative of each domain's risk by a factor w on the logits, at w = 1.

    The risk is the cross-entropy, averaged over pixels, as in the paper, whatever the method's own loss. Costs a second
    pass where a method lacks `loss_and_logits`.

    Args:
        weight: of the penalty: 100, DomainBed's default for images. 0: the method alone, bit for bit.
        warm_up: the share of the steps in which it weighs 1 at most: a tenth, DomainBed's 500 of 5000 steps.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self, modalities: Sequence[str], method: Callable[..., nn.Module], weight: float = 100.0, warm_up: float = 0.1
    ) -> None:
        super().__init__(modalities, method, weight, warm_up)

    def penalised(self, batch: Any, step: Any, domains: Domains) -> tuple[Tensor, Tensor]:
        loss, _, logits = loss_and_logits(self.method, batch, step)
        slopes = dummy_slopes(logits, batch.masks)
        return loss, mean(
            mean(slopes[rows.on_device].mean().square() for rows in inside.values())
            for inside in comparable(domains).values()
        )


def dummy_slopes(logits: Tensor, masks: Tensor) -> Tensor:
    """(B,) float32: d/dw of each image's mean cross-entropy of w * logits (B, 1, H, W) against the masks, at w = 1.

    By hand: the derivative of log(1 + exp(wz)) - ywz by w at 1 is (sigmoid(z) - y) z. So no second-order graph is needed.
    """
    with torch.autocast(logits.device.type, enabled=False):
        z = logits.float()
        return ((F.sigmoid(z) - masks.float()) * z).flatten(1).mean(1)
