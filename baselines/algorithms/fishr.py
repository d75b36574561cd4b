"""Fishr: gradients that vary as much in one training domain as in another.

Rame, Dancette, Cord, "Fishr: Invariant Gradient Variances for Out-of-Distribution Generalization", ICML 2022,
arXiv 2109.02934.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.base import required
from baselines.algorithms.domains import DomainPenalty, Domains, Rows, comparable, mean
from baselines.algorithms.memory import DomainMemory
from baselines.algorithms.settings import check_range


class Fishr(DomainPenalty):
    """Adds the mean squared distance of each domain's variance of gradients from the domains' mean.

    Gradients are those of each image's loss by the parameters of the last layer, as in the paper's experiments on
    DomainBed. Domains with a single image in the batch are left out: they have no variance. Variances are smoothed over
    steps and divided by 1 - ema, so that their own gradient does not depend on it, as in the official code.

    Args:
        weight: of the penalty: 1000, the official default for images. 0: the method alone, bit for bit.
        warm_up: the share of the steps before there is a penalty: 0.3, the official 1500 of 5000 steps.
        ema: share of the old variances in the smoothed ones: 0.95, the official default.

    Raises:
        ValueError: a setting out of range, or a method that lacks `head()` or `losses_by_image`.
    """

    first_weight = 0.0

    def __init__(
        self,
        modalities: Sequence[str],
        method: Callable[..., nn.Module],
        weight: float = 1000.0,
        warm_up: float = 0.3,
        ema: float = 0.95,
    ) -> None:
        super().__init__(modalities, method, weight, warm_up)
        check_range("Fishr", "ema", ema, 0, 0.9999)
        self.ema = ema
        self._head: list[nn.Module] = [required(self.method, "head", "Fishr", "the last layer")()]
        required(self.method, "losses_by_image", "Fishr", "the losses of single images from one pass")
        self.variances = DomainMemory(sum(parameter.numel() for parameter in self._head[0].parameters()))

    def penalised(self, batch: Any, step: Any, domains: Domains) -> tuple[Tensor, Tensor]:
        loss, by_image = self.method.losses_by_image(batch, step)  # type: ignore[operator]
        parameters = list(self._head[0].parameters())
        groups = comparable(domains, images=2)
        if not groups or not all(parameter.requires_grad for parameter in parameters):
            return loss, loss.new_zeros(())
        # Smoothing begins with the first step; a graph through the gradients costs and is needed only for the penalty.
        gradients = gradients_by_image(by_image, parameters, create_graph=self.weight_at(step) > 0)
        return loss, mean(self._apart(gradients, inside) for inside in groups.values())

    def _apart(self, gradients: Tensor, domains: dict[int, Rows]) -> Tensor:
        names = list(domains)
        now = torch.stack([gradients[rows.on_device].var(0, correction=0) for rows in domains.values()])
        smooth = self.ema * self.variances.read(names) + (1 - self.ema) * now
        self.variances.write(names, smooth)
        smooth = smooth / (1 - self.ema)
        return (smooth - smooth.mean(0)).square().mean()


def gradients_by_image(losses: Tensor, parameters: Sequence[nn.Parameter], *, create_graph: bool) -> Tensor:
    """(B, P) float32: the gradient of each of the losses (B,) by all parameters, one after the other."""
    each = torch.eye(len(losses), dtype=losses.dtype, device=losses.device)
    gradients = torch.autograd.grad(
        losses, parameters, each, is_grads_batched=True, create_graph=create_graph, retain_graph=True
    )
    return torch.cat([gradient.flatten(1).float() for gradient in gradients], 1)
