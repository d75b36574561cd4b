"""Faults that every imaging device knows: noise, blur, compression, exposure, colour balance, movement."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.corruptions.corruption import Pixels, is_grey, side_of

_READ_NOISE = 0.15
"""Of the noise's variance: the share that does not depend on the light."""
_TEMPERATURE, _TINT = np.array([1.0, 0.0, -1.0]), np.array([-0.15, 0.3, -0.15])
"""Red, green, blue: lamps differ mostly from warm to cold, and less from magenta to green. Each adds up to 0."""


def noise(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Sensor noise: its variance grows with the light (shot noise) from a small constant (read noise).

    Args:
        level: standard deviation at white.
    """
    grey = is_grey(image)
    pattern = rng.standard_normal((*image.shape[:2], 1 if grey else 3), dtype=np.float32)
    return image + np.float32(level) * np.sqrt(_READ_NOISE + (1 - _READ_NOISE) * image) * pattern


def blur(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Gaussian blur, as out of focus.

    Args:
        level: standard deviation as a share of the shorter side.
    """
    from scipy.ndimage import gaussian_filter  # in here: `list` names the corruptions, and needs no scipy

    sigma = level * side_of(image)
    channels = [
        gaussian_filter(np.ascontiguousarray(channel), sigma, truncate=3) for channel in np.moveaxis(image, 2, 0)
    ]
    return np.stack(channels, axis=2)


def jpeg(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Compressed and decompressed.

    Args:
        level: JPEG quality.
    """
    pixels = np.rint(image * 255).astype(np.uint8)
    picture, file = Image.fromarray(pixels[..., 0] if is_grey(image) else pixels), BytesIO()
    picture.save(file, format="JPEG", quality=round(level))
    with Image.open(file) as opened:
        return np.asarray(opened.convert("RGB"), np.float32) / np.float32(255)


def gamma(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Brightened or darkened along a power curve, which of the two by chance.

    Args:
        level: the exponent, or its inverse.
    """
    return image ** np.float32(level if rng.random() < 0.5 else 1 / level)


def colour_cast(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """A wrong white balance: each channel is multiplied by a factor, their product being 1.

    Args:
        level: about the natural logarithm of the largest factor.
    """
    cast = rng.choice([-1.0, 1.0]) * _TEMPERATURE + rng.uniform(-1, 1) * _TINT
    return image * np.exp(level * cast).astype(np.float32)


def motion(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Smeared along a straight line, to both sides alike, in a direction by chance.

    Args:
        level: length of the line as a share of the shorter side.
    """
    from scipy.fft import irfft2, next_fast_len, rfft2

    kernel = line_kernel(level * side_of(image), rng.uniform(0, np.pi))
    reach, (height, width) = len(kernel) // 2, image.shape[:2]
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    shape = [next_fast_len(length, real=True) for length in padded.shape[:2]]
    spectrum = rfft2(padded, shape, axes=(0, 1)) * rfft2(kernel, shape)[..., None]
    smeared: Pixels = irfft2(spectrum, shape, axes=(0, 1))[2 * reach :, 2 * reach :][:height, :width]
    return smeared


def line_kernel(length: float, angle: float) -> NDArray[np.float32]:
    """Weights (K, K) float32, K odd, with the sum 1, of a line of `length` pixels through the middle; point-symmetric."""
    reach = int(np.ceil(length / 2))
    kernel = np.zeros((2 * reach + 3, 2 * reach + 3))
    steps = np.linspace(-length / 2, length / 2, 4 * reach + 1)
    for y, x in zip(reach + 1 + steps * np.sin(angle), reach + 1 + steps * np.cos(angle), strict=True):
        row, column = int(y), int(x)
        right, below = x - column, y - row
        kernel[row : row + 2, column : column + 2] += np.outer((1 - below, below), (1 - right, right))
    kernel += kernel[::-1, ::-1]  # against rounding: the middle stays where it is
    return (kernel / kernel.sum()).astype(np.float32)
