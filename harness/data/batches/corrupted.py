"""`CorruptedPixels`: images of a cache, corrupted as they are asked for and kept nowhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.pixels import sent
from harness.data.corruptions.corruption import CORRUPTIONS_VERSION
from harness.data.corruptions.registry import corrupted


class CorruptedPixels:
    """A `Source` of corrupted images, at the size of the cache, with the masks of the clean ones.

    What a method gets is corrupted: with `training.geometry=tiles` each window by itself, with `letterbox` its ground as well.

    Args:
        name: of the corruption.
        severity: 1 to 5.
        seed: of the random patterns, which depend on it, the name and the pixels of the image.
    """

    def __init__(self, cache: ArrayCache, device: torch.device | str, name: str, severity: int, seed: int) -> None:
        self.cache, self.device = cache, torch.device(device)
        self.name, self.severity, self.seed = name, severity, seed
        # A method that keeps what it computed for an image must not mistake the corrupted one for it.
        self.suffix = f" {name}-{severity} {seed} v{CORRUPTIONS_VERSION}"

    def places(self, keys: Sequence[str]) -> list[int]:
        """See `Source`."""
        return self.cache.rows(keys)

    def take(self, places: Sequence[int], on_device: Tensor) -> tuple[Tensor, Tensor]:
        """See `Source`."""
        rows = list(places)
        images = np.stack([corrupted(self.cache.images[row], self.name, self.severity, self.seed) for row in rows])
        return sent(torch.from_numpy(images), self.device), sent(torch.from_numpy(self.cache.masks[rows]), self.device)
