"""What every phantom is drawn on, and what a domain says about the device that takes the picture.

Lengths are in *reference pixels*: 1/256 of `image_size`. Anatomy and optics therefore keep their proportions at every
size, and a number in a domain reads as pixels of a 256-pixel image.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]
REFERENCE_SIZE = 256


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The device and the population of one phantom domain: all that differs between domains of a modality.

    Attributes:
        description: one line for people.
        size: height and width of the image file, as parts of `image_size`.
        images_per_subject: consecutive images that share a subject; None = subjects unknown (an empty manifest column).
        zoom: magnification; above 1 the field of view is smaller and the anatomy larger.
        blur: sigma of the Gaussian point spread, reference pixels.
        noise: standard deviation of the sensor noise at full brightness, as part of full scale.
        gain: response of the red, green and blue channel.
        contrast: factor around mid grey.
        gamma: exponent of the tone curve; below 1 brightens the dark.
    """

    description: str
    size: tuple[float, float] = (1.0, 1.0)
    images_per_subject: int | None = None
    zoom: float = 1.0
    blur: float = 0.7
    noise: float = 0.01
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    gamma: float = 1.0


@dataclass(frozen=True)
class Canvas:
    """A pixel grid with coordinates in reference pixels, (0, 0) at its centre.

    Attributes:
        height, width: pixels.
        scale: pixels per reference pixel.
    """

    height: int
    width: int
    scale: float

    @classmethod
    def of(cls, domain: Domain, image_size: int) -> Canvas:
        height, width = (max(16, round(part * image_size)) for part in domain.size)
        return cls(height, width, image_size / REFERENCE_SIZE * domain.zoom)

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def half(self) -> tuple[float, float]:
        """Distance of the upper and of the left border from the centre, reference pixels."""
        return self.height / 2 / self.scale, self.width / 2 / self.scale

    @property
    def y(self) -> FloatArray:
        """Row coordinates, shape (H, 1)."""
        return ((np.arange(self.height, dtype=np.float32) - (self.height - 1) / 2) / self.scale)[:, None]

    @property
    def x(self) -> FloatArray:
        """Column coordinates, shape (1, W)."""
        return ((np.arange(self.width, dtype=np.float32) - (self.width - 1) / 2) / self.scale)[None, :]

    def somewhere(self, rng: np.random.Generator, extent: float) -> tuple[float, float]:
        """A random point (y, x); `extent` is the part of the picture it may lie in, 1 = up to the border."""
        half_y, half_x = self.half
        return rng.uniform(-extent, extent) * half_y, rng.uniform(-extent, extent) * half_x


def generator(*name: object) -> np.random.Generator:
    """The random generator that belongs to a name; unlike a shared one, it does not depend on what was drawn before."""
    digest = hashlib.sha256("/".join(map(str, name)).encode("utf-8")).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
