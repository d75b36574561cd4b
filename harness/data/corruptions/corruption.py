"""`Corruption`: one fault of an image, in five degrees; and the random generator that depends on the image alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CORRUPTIONS_VERSION = 1
"""Part of the prediction id of corrupted images. Raised when a corruption gives other pixels for the same image."""
SEVERITIES = (1, 2, 3, 4, 5)

Pixels = NDArray[np.float32]
"""(H, W, 3) or (H, W), float32 in [0, 1]."""


@dataclass(frozen=True)
class Corruption:
    """One kind of fault. It moves nothing: the mask of the clean image is that of the corrupted one.

    Attributes:
        name: as in `protocol.corruptions` and in the roles of results.
        title: for people.
        definition: what is done to the pixels, in a sentence.
        modalities: the canonical modalities that it occurs in.
        levels: its strength at severity 1 to 5, rising (JPEG quality: falling).
        change: (image, level, generator) -> image, both (H, W, 3) float32 in [0, 1]. It draws the same numbers at every
            level, so that a higher severity is the same fault made stronger. The result is clipped to [0, 1] by `apply`.
        general: it also occurs in modalities that have no canonical name.
    """

    name: str
    title: str
    definition: str
    modalities: tuple[str, ...]
    levels: tuple[float, float, float, float, float]
    change: Callable[[Pixels, float, np.random.Generator], Pixels]
    general: bool = False

    def apply(self, image: NDArray[np.uint8], severity: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The corrupted image (H, W, 3) uint8 of an image (H, W, 3) uint8.

        Args:
            severity: 1 to 5.
            rng: see `generator_of`.
        """
        if severity not in SEVERITIES:
            raise ValueError(f"severity {severity}: expected 1 to 5.")
        changed = self.change(image.astype(np.float32) / np.float32(255), self.levels[severity - 1], rng)
        return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)


def generator_of(image: NDArray[np.uint8], name: str, seed: int) -> np.random.Generator:
    """The random generator of one image (H, W, 3) uint8: seeded by its pixels, the corruption's name and a seed.

    The severity is no part of it.
    """
    digest = hashlib.sha256(f"{name} {seed} {image.shape}".encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return np.random.default_rng(int.from_bytes(digest.digest(), "big"))


def is_grey(image: Pixels) -> bool:
    """Whether the three channels of (H, W, 3) are equal, as a monochrome device gives them."""
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all())


def side_of(image: Pixels) -> int:
    """The shorter side in pixels. Lengths are shares of it: a fault looks alike at every size of an image."""
    return min(image.shape[:2])
