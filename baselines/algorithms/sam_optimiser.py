"""SAM, the optimiser: flat minima by the gradient at the worst point nearby. Not the Segment Anything Model.

Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021, arXiv 2010.01412.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.base import Algorithm
from baselines.algorithms.other_weights import with_weights
from baselines.algorithms.settings import check_range

Gradients = dict[str, Tensor]


class SharpnessAware(Algorithm):
    """Each step's gradient is that at w + rho * g / |g|, where g is the gradient at the weights w themselves.

    Two passes forward and backward a step. Batch norm's running statistics see the first one only, as in the common
    implementations. Where a batch is cut into micro-batches, each has a worst point of its own (the paper's m-sharpness).

    Args:
        rho: the distance, over all trainable parameters together: 0.05, the paper's default. 0: the method alone.

    Raises:
        ValueError: `rho` is negative.
    """

    def __init__(self, modalities: Sequence[str], method: Callable[..., nn.Module], rho: float = 0.05) -> None:
        super().__init__(modalities, method)
        check_range("SharpnessAware", "rho", rho, 0)
        self.rho = rho

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any]]:
        if self.rho == 0:
            return super().training_loss(batch, step)
        here, parts, gradients = loss_and_gradients(self.method, batch, step)
        there, _, gradients = loss_and_gradients_at(
            self.method, moved(self.method, gradients, self.rho / length(gradients)), batch, step
        )
        return with_gradients(self.method, there, gradients), {**parts, "sharpness": there - here}


def loss_and_gradients(method: nn.Module, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any], Gradients]:
    """The loss (detached), its parts, and the gradients of all parameters that train and take part, by name."""
    return _differentiated(method, batch, step)


def loss_and_gradients_at(
    method: nn.Module, weights: Mapping[str, Tensor], batch: Any, step: Any
) -> tuple[Tensor, dict[str, Any], Gradients]:
    """The same at other weights; the method's own, and its buffers, stay.

    Differentiated while the weights are in place: a method that computes activations again does so with them.
    """
    answer: tuple[Tensor, dict[str, Any], Gradients] = with_weights(
        method, weights, lambda moved: _differentiated(moved, batch, step)
    )
    return answer


def _differentiated(method: nn.Module, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any], Gradients]:
    parameters = _trainable(method)  # inside `with_weights`: the other weights
    loss, parts = method.training_loss(batch, step)  # type: ignore[operator]
    with torch.autocast(loss.device.type, enabled=False):
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    pairs = zip(parameters, gradients, strict=True)
    return loss.detach(), parts, {name: gradient for name, gradient in pairs if gradient is not None}


def _trainable(method: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in method.named_parameters() if value.requires_grad}


def length(gradients: Gradients) -> Tensor:
    """The Euclidean norm over all parameters, above zero."""
    norm: Tensor = torch.stack([gradient.float().norm() for gradient in gradients.values()]).norm()
    return norm + 1e-12


def moved(method: nn.Module, gradients: Gradients, factor: Tensor) -> dict[str, Tensor]:
    """Weights w + factor * gradient of the parameters that have one; leaves of a new graph."""
    weights = _trainable(method)
    return {name: (weights[name].detach() + factor * g).requires_grad_() for name, g in gradients.items()}


def with_gradients(method: nn.Module, loss: Tensor, gradients: Gradients) -> Tensor:
    """The number `loss`, whose backward pass gives the parameters these gradients."""
    parameters = _trainable(method)
    answer: Tensor = _Given.apply(loss, list(gradients.values()), *(parameters[name] for name in gradients))
    return answer


class _Given(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(outer * gradient for gradient in ctx.gradients))
