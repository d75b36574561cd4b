"""GroupDRO: the worst domains weigh the most.

Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", ICLR 2020, arXiv 1911.08731.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.base import Algorithm
from baselines.algorithms.domains import comparable, domains_of, losses_by_domain
from baselines.algorithms.memory import DomainMemory
from baselines.algorithms.settings import check_range


class GroupDRO(Algorithm):
    """The loss is a weighted mean of the domains' losses; a domain's weight is multiplied by exp(step_size * its loss).

    Algorithm 1 of the paper, with a domain as a group and without its adjustments. Weights are updated before they are
    used, add up to 1 over a modality's domains in the batch, and are kept with the model. A modality counts as many
    times as it has images in the batch.

    Args:
        step_size: of the exponentiated ascent: 0.01, the paper's and DomainBed's.

    Raises:
        ValueError: `step_size` is negative.
    """

    def __init__(self, modalities: Sequence[str], method: Callable[..., nn.Module], step_size: float = 0.01) -> None:
        super().__init__(modalities, method)
        check_range("GroupDRO", "step_size", step_size, 0)
        self.step_size = step_size
        # Logarithms of the weights, up to a constant in each modality.
        self.log_weights = DomainMemory(1)

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any]]:
        domains = domains_of(batch)
        if not comparable(domains):
            return super().training_loss(batch, step)
        loss, losses = losses_by_domain(self.method, batch, step, domains)
        terms = []
        for inside in domains.values():
            here = torch.stack([losses[domain] for domain in inside])
            images = sum(len(rows) for rows in inside.values())
            terms.append((self._weights(list(inside), here) * here).sum() * (images / len(batch.keys)))
        weighted = torch.stack(terms).sum()
        return weighted, {"method": loss.detach(), "worst": torch.stack(list(losses.values())).detach().max()}

    def _weights(self, domains: list[int], losses: Tensor) -> Tensor:
        """(len(domains),) float32 that add up to 1, after their update by the losses."""
        logarithms = self.log_weights.read(domains)[:, 0] + self.step_size * losses.detach().float()
        self.log_weights.write(domains, logarithms[:, None])
        return logarithms.softmax(0)
