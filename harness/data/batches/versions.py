"""`FixedVersions`: a stage's augmented versions of its images, which come again and again, made once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from harness.data.batches.augmentation import Augmentation
from harness.data.batches.loader import Batch, EpochLoader
from harness.hardware import free_memory

KEPT_SHARE = 0.125
"""Of the free memory of the device: so much at most is given to the versions; where they need more, they are made anew."""


class FixedVersions:
    """`count` augmented versions of the images of a loader, kept as bytes on the device.

    A version is a function of an image's key, its number and the kind of device alone: see `Augmentation.version`. With tiles
    that goes for its window, too, so that what frozen parts make of it can be kept; an image then shows `count` windows.
    """

    def __init__(self, loader: EpochLoader, augmentation: Augmentation, count: int, share: float = KEPT_SHARE) -> None:
        self._loader, self._augmentation = loader, augmentation
        size = loader.pixels.cache.image_size
        needed = count * len(loader.keys) * size * size * 4
        self._fit = needed <= share * free_memory(loader.pixels.device)
        self._kept: dict[int, KeptPixels] = {}

    def epoch(self, epoch: int, number: int) -> Iterator[Batch]:
        """The batches of an epoch, of version `number` of each image."""
        if not self._fit:
            yield from (
                self._augmentation.version(batch, number) for batch in self._loader.epoch(epoch, version=number)
            )
            return
        if number not in self._kept:
            self._kept[number] = self._made(number)
        yield from self._loader.epoch(epoch, self._kept[number], version=number)

    def _made(self, number: int) -> KeptPixels:
        batches = [self._augmentation.version(batch, number) for batch in self._loader.in_order(number)]
        return KeptPixels(batches, self._loader.windows_of_version(number), self._augmentation.suffix(number))


class KeptPixels:
    """The pixels of batches, to be taken again by the keys of their arrays: see `harness.data.batches.pixels.Pixels`."""

    def __init__(self, batches: Sequence[Batch], arrays: Sequence[str], suffix: str) -> None:
        self.suffix = suffix
        self._place = {key: place for place, key in enumerate(arrays)}
        self._images = torch.cat([_bytes(batch.images).permute(0, 2, 3, 1).contiguous() for batch in batches])
        self._masks = torch.cat([batch.masks.squeeze(1).to(torch.uint8) for batch in batches])

    def places(self, keys: Sequence[str]) -> list[int]:
        return [self._place[key] for key in keys]

    def take(self, places: Sequence[int], on_device: Tensor) -> tuple[Tensor, Tensor]:
        return self._images.index_select(0, on_device), self._masks.index_select(0, on_device)


def _bytes(images: Tensor) -> Tensor:
    return images.mul(255).round_().to(torch.uint8)
