"""SAGM: flat minima towards which the gradients of both losses point.

Wang et al., "Sharpness-Aware Gradient Matching for Domain Generalization", CVPR 2023, arXiv 2303.10353.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from baselines.algorithms.base import Algorithm
from baselines.algorithms.sam_optimiser import (
    length,
    loss_and_gradients,
    loss_and_gradients_at,
    moved,
    with_gradients,
)
from baselines.algorithms.settings import check_range


class SAGM(Algorithm):
    """Each step's gradient is the mean of g, that at the weights w, and of that at w + (rho / |g| - alpha) g.

    The paper adds the two; its code takes their mean, as here, so that a step is as long as the method's own. Otherwise
    as SAM: two passes, running statistics from the first, micro-batches each by itself.

    Args:
        rho: the distance to the worst point, over all trainable parameters together: 0.05, the paper's.
        alpha: how far the gradient's own step is taken back: 0.001, the paper's. Both 0: the method alone.

    Raises:
        ValueError: a setting is negative.
    """

    def __init__(
        self, modalities: Sequence[str], method: Callable[..., nn.Module], rho: float = 0.05, alpha: float = 0.001
    ) -> None:
        super().__init__(modalities, method)
        check_range("SAGM", "rho", rho, 0)
        check_range("SAGM", "alpha", alpha, 0)
        self.rho, self.alpha = rho, alpha

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any]]:
        if self.rho == 0 and self.alpha == 0:
            return super().training_loss(batch, step)
        here, parts, gradients = loss_and_gradients(self.method, batch, step)
        there, _, others = loss_and_gradients_at(
            self.method, moved(self.method, gradients, self.rho / length(gradients) - self.alpha), batch, step
        )
        # A layer that is skipped at random may have taken part in one pass only.
        means = {name: (gradient + others.get(name, 0)) / 2 for name, gradient in gradients.items()}
        return with_gradients(self.method, (here + there) / 2, means), {**parts, "sharpness": there - here}
