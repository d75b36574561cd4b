"""Augmentation of whole batches on their own device, with parameters drawn for each image."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings

import torch
from torch import nn

from harness.data.batches.loader import Batch
from harness.errors import UserError, did_you_mean

with warnings.catch_warnings():  # kornia scripts functions at import, which torch has deprecated
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    import kornia.augmentation as kornia_augmentation

PRESETS = ("none", "flips", "standard")


class Augmentation(nn.Module):
    """Varies images and masks alike; colour only in images. Every method trains on the same augmentation.

    Presets: `none`; `flips` (left-right and up-down, each for half of the images); `standard`, which adds a rotation by
    up to 30 degrees with scale 0.8-1.25 and shift up to 8 % (half of the images; the border is mirrored), brightness,
    contrast and saturation by up to 25 %, gamma 0.7-1.4, a slight blur and slight noise.

    Images keep their range [0, 1], masks stay 0 or 1 (nearest neighbour). All randomness is torch's global generator:
    the same `torch.manual_seed` before gives the same output.
    """

    def __init__(self, preset: str = "standard") -> None:
        """
        Raises:
            UserError: an unknown preset.
        """
        super().__init__()
        if preset not in PRESETS:
            raise UserError(f"Unknown training.augmentation '{preset}'.{did_you_mean(preset, PRESETS)}")
        self.preset = preset
        operations = _operations(preset)
        self.operations = (
            kornia_augmentation.AugmentationSequential(*operations, data_keys=["input", "mask"]) if operations else None
        )

    @torch.no_grad()
    def forward(self, batch: Batch) -> Batch:
        """A new batch of the same shapes and dtypes; `batch` itself is left as it is."""
        if self.operations is None:
            return batch
        with torch.autocast(batch.images.device.type, enabled=False):
            # Clones: operations that happen to touch no image hand back their input, and the caller's must not change.
            images, masks = self.operations(batch.images.clone(), batch.masks.clone())
        return dataclasses.replace(batch, images=images.clamp_(0, 1), masks=masks)

    def version(self, batch: Batch, number: int) -> Batch:
        """Version `number` of each image: a function of the image's key and the number alone, whatever the batch.

        The batch lies on the CPU, and torch's global generator is left as it was. Costs about 2 ms for an image of 128 px.
        """
        with torch.random.fork_rng(devices=[]):
            parts = []
            for part in batch.chunks(1):
                digest = hashlib.sha256(f"{part.keys[0]}\n{number}".encode()).digest()
                torch.default_generator.manual_seed(int.from_bytes(digest[:8], "little", signed=True))
                parts.append(self(part))
        return dataclasses.replace(
            batch,
            images=torch.cat([part.images for part in parts]),
            masks=torch.cat([part.masks for part in parts]),
        )


def _operations(preset: str) -> list[kornia_augmentation.AugmentationBase2D]:
    """Cheap ones were chosen: those that go through HSV (hue, kornia's RandomSaturation) cost more than all the rest."""
    if preset == "none":
        return []
    flips: list[kornia_augmentation.AugmentationBase2D] = [
        kornia_augmentation.RandomHorizontalFlip(p=0.5),
        kornia_augmentation.RandomVerticalFlip(p=0.5),
    ]
    if preset == "flips":
        return flips
    return [
        *flips,
        kornia_augmentation.RandomAffine(
            degrees=30.0, translate=(0.08, 0.08), scale=(0.8, 1.25), padding_mode="reflection", p=0.5
        ),
        kornia_augmentation.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.0, p=0.8),
        kornia_augmentation.RandomGamma(gamma=(0.7, 1.4), p=0.3),
        kornia_augmentation.RandomGaussianBlur(kernel_size=(5, 5), sigma=(0.3, 1.2), p=0.2),
        kornia_augmentation.RandomGaussianNoise(mean=0.0, std=0.03, p=0.2),
    ]
