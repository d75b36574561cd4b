"""Images as RGB of 8 bits, so that a number in a table does not depend on a container.

- EXIF orientation is applied, to images and masks alike.
- The scale comes from the format or from the data set, never from one image's own values: stretching each image to its
  own range would be a hidden normalisation. 8 bits are taken as they are. A 16-bit or real-valued file does not tell which
  value is white: that is the `white_level` of its domain, from the manifest or from the largest value of all the domain's
  images (`levels.py`).
- Alpha that is the same everywhere says nothing and is dropped; otherwise the image is laid on black.
- Palette, CMYK, YCbCr, 1-bit and grey images are converted to RGB. Colour profiles are not applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.reading.picture import Picture, decode
from harness.errors import UserError


@dataclass(frozen=True)
class Range:
    """The values of a picture whose format does not tell what is white. `real`: floating-point numbers."""

    low: float
    high: float
    real: bool


@dataclass(frozen=True)
class ImageReading:
    """What a file shows.

    Attributes:
        picture: before it is scaled.
        range: of its values, where the format does not tell what is white, else None.
    """

    picture: Picture
    range: Range | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), upright."""
        return self.picture.values.shape[0], self.picture.values.shape[1]


def read_image(path: Path, white_level: float | None = None) -> NDArray[np.uint8]:
    """Reads an image as RGB.

    Args:
        white_level: the value that is white, for files whose format does not tell; None is 65535.

    Returns:
        (H, W, 3) uint8, by the rules at the top of this file.

    Raises:
        UserError: the file is missing, damaged, truncated, holds several pictures, or values beyond the white level.
    """
    return to_rgb(decode(path, "image"), path, white_level)


def examine_image(path: Path) -> ImageReading:
    """As `read_image`, before the white level is known; raises UserError likewise, but for values beyond it."""
    picture = decode(path, "image")
    if picture.white is not None:
        return ImageReading(picture, None)
    low, high = float(picture.values.min()), float(picture.values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{path}: expected finite numbers, found NaN or infinity. Replace them, or remove the pair.")
    return ImageReading(picture, Range(low, high, picture.values.dtype.kind == "f"))


def to_rgb(picture: Picture, path: Path, white_level: float | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a decoded picture; see `read_image`."""
    values = _to_8_bits(picture, path, white_level)
    rgb = np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else np.ascontiguousarray(values)
    alpha = picture.alpha
    if alpha is None or alpha.min() == alpha.max():
        return rgb
    return np.asarray((rgb.astype(np.uint16) * alpha[..., None] + 127) // 255, dtype=np.uint8)


def _to_8_bits(picture: Picture, path: Path, white_level: float | None) -> NDArray[np.uint8]:
    values = picture.values
    if values.dtype == np.uint8:
        return values
    real = values.dtype.kind == "f"
    white = picture.white or white_level or (None if real else 65535)
    low, high = float(values.min()), float(values.max())
    if white is None or not (low >= 0 and high <= white):
        expected = "8 or 16 bits a channel" if white is None else f"values from 0 to the white level {white:g}"
        kind = "real numbers " if real else ""
        raise UserError(
            f"{path}: expected {expected}, found {kind}from {low:g} to {high:g}. Which value is white can't be known: convert "
            "it to 8 or 16 bits, or state it (column white_level of manifest.csv; --white-level of predict)."
        )
    return np.asarray(np.floor(values * (255 / white) + 0.5), dtype=np.uint8)
