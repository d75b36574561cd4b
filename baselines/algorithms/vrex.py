"""V-REx: equal losses on all training domains.

Krueger et al., "Out-of-Distribution Generalization via Risk Extrapolation (REx)", ICML 2021, arXiv 2003.00688.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.domains import DomainPenalty, Domains, comparable, losses_by_domain, mean


class VREx(DomainPenalty):
    """Adds the variance of the domains' losses, eq. 8 of the paper, as the mean squared distance from their mean.

    Args:
        weight: of the variance: 10, DomainBed's default for images. 0: the method alone, bit for bit.
        warm_up: the share of the steps in which it weighs 1 at most: a tenth, DomainBed's 500 of 5000 steps.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self, modalities: Sequence[str], method: Callable[..., nn.Module], weight: float = 10.0, warm_up: float = 0.1
    ) -> None:
        super().__init__(modalities, method, weight, warm_up)

    def penalised(self, batch: Any, step: Any, domains: Domains) -> tuple[Tensor, Tensor]:
        loss, losses = losses_by_domain(self.method, batch, step, domains)
        return loss, mean(
            torch.stack([losses[domain] for domain in inside]).var(correction=0)
            for inside in comparable(domains).values()
        )
