"""Faults of endoscopy: bubbles of liquid on the mucosa, and specular reflections of the lamp."""

from __future__ import annotations

import numpy as np

from harness.data.corruptions.corruption import Pixels, side_of

_MOST = 200
"""Bubbles or reflections that are drawn at random; the level says how many of them are painted."""


def bubbles(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Foam: bubbles in a few heaps, each a bright ring around a lighter disk, with a small reflection of the lamp.

    Args:
        level: number of bubbles.
    """
    side, result = side_of(image), image.copy()
    middles = rng.uniform(0.1, 0.9, (4, 2))
    heaps, offsets = rng.integers(0, len(middles), _MOST), rng.normal(0, 0.1, (_MOST, 2))
    radii = np.exp(rng.normal(np.log(0.022), 0.45, _MOST)).clip(0.008, 0.07)
    for number in range(round(level)):
        centre = (middles[heaps[number]] + offsets[number]) * image.shape[:2]
        _paint_bubble(result, centre[0], centre[1], max(1.0, radii[number] * side))
    return image + _field(image) * (result - image)


def _field(image: Pixels) -> Pixels:
    """How well the lamp lights each pixel (H, W, 1), 0 to 1: nothing is seen in the black frame and far down the lumen."""
    from scipy.ndimage import gaussian_filter  # in here: `list` names the corruptions, and needs no scipy

    light = gaussian_filter(image.max(2), 0.015 * side_of(image), mode="nearest")
    return np.clip(6 * light - 0.6, 0, 1)[..., None]


def _paint_bubble(image: Pixels, y: float, x: float, radius: float) -> None:
    """Paints one bubble of `radius` pixels into an image (H, W, 3), in place."""
    part, distance, rows, columns = _neighbourhood(image, y, x, 1.3 * radius + 1)
    if not part.size:
        return
    edge = max(0.12, 0.6 / radius)
    ring = np.exp(-(((distance / radius - 0.92) / edge) ** 2))
    # The lamp lights the ring from above left; the far side of a bubble is darker than what lies behind it.
    lit = 0.5 - 0.5 * (rows + columns) / (np.sqrt(2) * np.maximum(distance, 1e-6))
    inside = np.clip((radius - distance) / max(1.0, edge * radius), 0, 1)
    part += (0.10 * inside)[..., None] * (1 - part)
    part *= (1 - 0.25 * ring * (1 - lit))[..., None]
    part += (0.6 * ring * lit)[..., None] * (1 - part)
    glint = np.exp(-((rows + 0.45 * radius) ** 2 + (columns + 0.35 * radius) ** 2) / (2 * (0.14 * radius + 0.2) ** 2))
    part += (0.95 * glint)[..., None] * (1 - part)


def specular(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Reflections of the lamp on wet tissue: saturated white spots with a soft rim, mostly where it is bright already.

    Args:
        level: number of spots.
    """
    side, result = side_of(image), image.copy()
    places = rng.uniform(0.02, 0.98, (_MOST, 3, 2))
    sizes = np.exp(rng.normal(np.log(0.007), 0.5, _MOST)).clip(0.003, 0.02)
    stretches, angles = rng.uniform(1, 3, _MOST), rng.uniform(0, np.pi, _MOST)
    brightness = image.mean(2)
    for number in range(round(level)):
        spots = (places[number] * image.shape[:2]).astype(int)
        y, x = max(spots.tolist(), key=lambda spot: float(brightness[spot[0], spot[1]]))
        short, long = sizes[number] * side, sizes[number] * side * stretches[number]
        part, _, rows, columns = _neighbourhood(result, y, x, 2 * long + 2)
        along = rows * np.sin(angles[number]) + columns * np.cos(angles[number])
        over = rows * np.cos(angles[number]) - columns * np.sin(angles[number])
        distance = np.sqrt((along / max(long, 0.7)) ** 2 + (over / max(short, 0.7)) ** 2)
        part += np.clip((1.5 - distance) / 0.7, 0, 1)[..., None] * (1 - part)
    return image + _field(image) * (result - image)


def _neighbourhood(image: Pixels, y: float, x: float, reach: float) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """What of an image (H, W, 3) lies within `reach` of a point, as a view; its distances, rows and columns from there."""
    (top, bottom), (left, right) = (
        (min(max(0, int(middle - reach)), length), min(max(0, int(middle + reach) + 2), length))
        for middle, length in zip((y, x), image.shape[:2], strict=True)
    )
    rows, columns = np.mgrid[top:bottom, left:right].astype(np.float32)
    rows, columns = rows - np.float32(y), columns - np.float32(x)
    return image[top:bottom, left:right], np.hypot(rows, columns), rows, columns
