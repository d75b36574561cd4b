"""CORAL: features with the same mean and covariance in all training domains.

Sun and Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV 2016 Workshops, arXiv 1607.01719.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.base import required
from baselines.algorithms.domains import DomainPenalty, Domains, comparable, mean


class CORAL(DomainPenalty):
    """Adds the distance of means and covariances of the deepest features, averaged over pairs of domains.

    As DomainBed adapts it to several training domains: mean squared differences of the means and of the covariances'
    entries. An observation is one position of a feature map, where a classifier has one for each image.

    Args:
        weight: of the distance: 1, DomainBed's default. 0: the method alone, bit for bit.

    Raises:
        ValueError: a negative weight, or a method that does not name its feature layers.
    """

    def __init__(self, modalities: Sequence[str], method: Callable[..., nn.Module], weight: float = 1.0) -> None:
        super().__init__(modalities, method, weight)
        layers = required(self.method, "feature_layers", "CORAL", "the deepest features of an encoder")()
        # In a list, so that the layer is not a part of this module a second time.
        self._deepest: list[tuple[nn.Module, int]] = [layers[-1]]

    def penalised(self, batch: Any, step: Any, domains: Domains) -> tuple[Tensor, Tensor]:
        (layer, channel_axis), kept = self._deepest[0], list[Tensor]()
        hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
        try:
            loss, _ = self.method.training_loss(batch, step)  # type: ignore[operator]
        finally:
            hook.remove()
        features = next((output for output in kept if len(output) == len(batch.keys)), None)
        if features is None:
            raise ValueError(
                f"CORAL: expected features of {len(batch.keys)} images from {type(layer).__name__}, found shapes"
                f" {[tuple(output.shape) for output in kept]}. A layer in feature_layers() keeps the images on its first axis."
            )
        with torch.autocast(features.device.type, enabled=False):
            x = features.float().movedim(channel_axis, -1)
            return loss, mean(
                mean(distance(x[a.on_device], x[b.on_device]) for a, b in combinations(inside.values(), 2))
                for inside in comparable(domains).values()
            )


def distance(one: Tensor, other: Tensor) -> Tensor:
    """How far two domains' features (images, ..., C) are apart; a scalar, 0 where mean and covariance are equal."""
    statistics = [_mean_and_covariance(x.flatten(0, -2)) for x in (one, other)]
    return torch.stack([(a - b).square().mean() for a, b in zip(*statistics, strict=True)]).sum()


def _mean_and_covariance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of observations (N, C): (C,) and (C, C). The covariance of a single one is 0."""
    centre = x.mean(0)
    centred = x - centre
    return centre, centred.T @ centred / max(len(x) - 1, 1)
