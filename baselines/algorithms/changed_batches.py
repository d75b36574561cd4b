"""What algorithms share that change the training images, or images and masks, and leave learning as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.base import Algorithm
from baselines.algorithms.settings import check_range


class ChangedBatches(Algorithm):
    """The method learns from changed batches, and is tested as it is.

    Args:
        probability: of an image being changed. 0: the method alone, bit for bit.

    Raises:
        ValueError: `probability` is not in 0..1.
    """

    def __init__(self, modalities: Sequence[str], method: Callable[..., nn.Module], probability: float) -> None:
        super().__init__(modalities, method)
        check_range(type(self).__name__, "probability", probability, 0, 1)
        self.probability = probability

    def changed(self, batch: Any) -> Any:
        """A new batch of the same shapes, in float32; `batch` stays as it is."""
        raise NotImplementedError

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any]]:
        if self.probability > 0:
            with torch.no_grad(), torch.autocast(batch.images.device.type, enabled=False):
                batch = self.changed(batch)
        return super().training_loss(batch, step)
