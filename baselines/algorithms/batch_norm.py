"""Batch-norm adaptation: the test images' own statistics in batch norm, mixed with those of training.

Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", NeurIPS 2020,
arXiv 2006.16971.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from baselines.algorithms.base import Algorithm
from baselines.algorithms.settings import check_range


class BatchNormAdaptation(Algorithm):
    """Trained as the method is; tested with means and variances of N / (N + n) training and n / (N + n) batch.

    n is the number of images in the batch. Nothing is kept from one batch to the next, and no weight changes.

    Args:
        prior: N, in images: 16, what MEMO (Zhang et al., NeurIPS 2022) takes from the paper for single images. 0: the batch alone.

    Raises:
        ValueError: a negative `prior`, or a method without batch norm or without `predict`.
    """

    def __init__(self, modalities: Sequence[str], method: Callable[..., nn.Module], prior: float = 16.0) -> None:
        super().__init__(modalities, method)
        check_range("BatchNormAdaptation", "prior", prior, 0)
        self.prior = prior
        check_predicts(self.method, "BatchNormAdaptation")
        if not batch_norms(self.method):
            raise ValueError(
                f"BatchNormAdaptation: expected normalisation layers with running statistics (torch's BatchNorm),"
                f" {type(self.method).__name__} has none. Leave this pair out."
            )

    def predict_adapting(self, images: Tensor, modality: Tensor) -> Tensor:
        """As `predict`, with the batch's own statistics."""
        with torch.no_grad(), batch_statistics(self.method, self.prior):
            return self.predict(images, modality)

    def reset_adaptation(self) -> None:
        """Nothing was kept."""


def batch_norms(method: nn.Module) -> list[_BatchNorm]:
    """The layers that have running statistics of images."""
    return [m for m in method.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def check_predicts(method: nn.Module, algorithm: str) -> None:
    """
    Raises:
        ValueError: the method needs a prompt, which is made of the masks, and those are not to be seen.
    """
    if hasattr(method, "predict_oracle"):
        raise ValueError(
            f"{algorithm}: expected a method that predicts from images alone with predict(); {type(method).__name__} is"
            " prompted from the true masks. Leave this pair out."
        )


@contextmanager
def batch_statistics(method: nn.Module, prior: float) -> Iterator[None]:
    """Batch norms in evaluation mode use the batch's statistics, mixed with `prior` images' worth of their own."""

    def hook(norm: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        return _normalised(norm, inputs[0], prior)  # type: ignore[arg-type]

    hooks = [norm.register_forward_hook(hook) for norm in batch_norms(method)]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def _normalised(norm: _BatchNorm, x: Tensor, prior: float) -> Tensor | None:
    if x.numel() == x.shape[1]:
        return None  # a single value has no variance: the running statistics stay
    axes = [axis for axis in range(x.dim()) if axis != 1]
    variance, mean = torch.var_mean(x.float(), axes, correction=0)
    share = len(x) / (prior + len(x))
    mean = torch.lerp(norm.running_mean, mean, share)  # type: ignore[arg-type]
    variance = torch.lerp(norm.running_var, variance, share)  # type: ignore[arg-type]
    shape = [1, -1] + [1] * (x.dim() - 2)
    scale = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -mean * scale if norm.bias is None else norm.bias - mean * scale
    return (x.float() * scale.view(shape) + shift.view(shape)).to(x.dtype)
