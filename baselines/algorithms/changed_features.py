"""What algorithms share that change the statistics of features while training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.base import Algorithm, required
from baselines.algorithms.settings import check_range


class ChangedFeatures(Algorithm):
    """Feature maps get another mean and standard deviation for each image and channel; nothing happens at test time.

    A layer's output is changed, for the whole batch, with a probability that is drawn for each layer and step.

    Args:
        probability: 0: the method alone, bit for bit.
        layers: how many of the method's feature layers, from the shallow side. None: all.

    Raises:
        ValueError: a setting out of range, or a method that does not name its feature layers.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        method: Callable[..., nn.Module],
        probability: float,
        layers: int | None = None,
    ) -> None:
        super().__init__(modalities, method)
        name = type(self).__name__
        check_range(name, "probability", probability, 0, 1)
        check_range(name, "layers", 1 if layers is None else layers, 1)
        self.probability = probability
        self._layers: list[tuple[nn.Module, int]] = required(self.method, "feature_layers", name, "encoder features")()
        # The deepest features hold what an object is, not how it looks: they stay, unless all were asked for.
        self._layers = self._layers[: None if layers is None else min(layers, max(1, len(self._layers) - 1))]

    def style(self, mean: Tensor, std: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """New means and standard deviations (B, C) float32 for those that the features have."""
        raise NotImplementedError

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any]]:
        if self.probability == 0 or not self.training or len(batch.modality) == 1:
            return super().training_loss(batch, step)
        with ExitStack() as hooks:
            for layer, channel_axis in self._layers:
                hooks.callback(layer.register_forward_hook(self._hook(batch, channel_axis)).remove)
            return super().training_loss(batch, step)

    def _hook(self, batch: Any, channel_axis: int) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
        def hook(module: nn.Module, inputs: Any, features: Tensor) -> Tensor | None:
            if len(features) != len(batch.modality):
                raise ValueError(
                    f"{type(self).__name__}: expected features of {len(batch.modality)} images from"
                    f" {type(module).__name__}, found shape {tuple(features.shape)}. A layer in feature_layers() keeps the"
                    " images on its first axis."
                )
            if torch.rand(()) >= self.probability:
                return None
            return self._restyled(features, channel_axis % features.dim(), batch)

        return hook

    def _restyled(self, features: Tensor, channel_axis: int, batch: Any) -> Tensor:
        positions = [axis for axis in range(1, features.dim()) if axis != channel_axis]
        if features[0].numel() == features.shape[channel_axis]:
            return features  # a single position has no standard deviation
        with torch.autocast(features.device.type, enabled=False):
            x = features.float()
            variance, mean = torch.var_mean(x, positions, keepdim=True)
            std = (variance + 1e-6).sqrt()  # as in the official codes
            new_mean, new_std = self.style(mean.flatten(1), std.flatten(1), batch)
            restyled = (x - mean) / std * new_std.view_as(std) + new_mean.view_as(mean)
        return restyled.to(features.dtype)
