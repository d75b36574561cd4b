"""Faults of dermoscopy: hair across the lesion."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from harness.data.corruptions.corruption import Pixels, side_of

_MOST = 80
_FINE = 512
"""Images with a shorter side below this are painted four times as large, and shrunk: thin hair is not jagged then."""
_POINTS = 24
_BLACK, _BROWN = np.array([0.05, 0.03, 0.02]), np.array([0.24, 0.15, 0.10])


def hair(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Dark, curved hair over the skin, in one main direction.

    Args:
        level: number of hairs.
    """
    height, width = image.shape[:2]
    main, colour = rng.uniform(0, np.pi), _BLACK + rng.random() * (_BROWN - _BLACK)
    middles, angles = rng.uniform(-0.05, 1.05, (_MOST, 2)), main + rng.normal(0, 0.5, _MOST)
    lengths, bends = rng.uniform(0.5, 1.3, _MOST), rng.normal(0, 0.18, _MOST)
    widths, opacities = rng.uniform(0.004, 0.009, _MOST), rng.uniform(0.65, 0.95, _MOST)
    cover = np.zeros((height, width), np.float32)
    for number in range(round(level)):
        curve = _curve(
            middles[number] * (height, width), angles[number], lengths[number], bends[number], side_of(image)
        )
        drawn = _drawn(curve, widths[number] * side_of(image), height, width)
        cover = np.maximum(cover, np.float32(opacities[number]) * drawn)
    return image + cover[..., None] * (colour.astype(np.float32) - image)


def _curve(middle: np.ndarray, angle: float, length: float, bend: float, side: int) -> np.ndarray:
    """Points (N, 2), as rows and columns, of a parabola through `middle`; `length` and `bend` in shorter sides."""
    along = np.array([np.sin(angle), np.cos(angle)])
    over = np.array([along[1], -along[0]])
    steps = np.linspace(-0.5, 0.5, _POINTS)[:, None]
    return np.asarray(middle + side * (length * steps * along + 4 * bend * length * steps**2 * over))


def _drawn(curve: np.ndarray, thickness: float, height: int, width: int) -> Pixels:
    """How much of each pixel (H, W) a stroke along the points covers, 0 to 1. Thinner than a pixel: fainter."""
    times = 4 if min(height, width) < _FINE else 1
    picture = Image.new("L", (width * times, height * times))
    points = [(float(x), float(y)) for y, x in (curve + 0.5) * times - 0.5]
    thick = max(1, round(thickness * times))
    ImageDraw.Draw(picture).line(points, fill=255, width=thick, joint="curve")
    if times > 1:
        picture = picture.resize((width, height), Image.Resampling.BOX)
    share = min(1.0, thickness * times / thick)
    return np.asarray(picture, np.float32) * np.float32(share / 255)
