"""Believable (prediction, reference) mask pairs for tests and timings; deterministic in the seed.

Two kinds, because they load a surface metric in opposite ways: lesions have short borders that lie pixels apart,
vessel trees have tens of thousands of border pixels of which most coincide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import distance_transform_edt, fourier_gaussian, gaussian_filter, map_coordinates

Mask = NDArray[np.bool_]


def lesion_pair(size: int = 1024, seed: int = 0, *, displacement: float = 10.0) -> tuple[Mask, Mask]:
    """A blob with a rough contour and a smoothly deformed, slightly rough version of it.

    Args:
        size: side length in pixels.
        seed: same seed, same pair.
        displacement: scale of the smooth deformation in pixels at `size` 1024.

    Returns:
        (prediction, reference), each (size, size) bool; about 5 to 25 % foreground.
    """
    rng = np.random.default_rng(seed)
    scale = size / 1024
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    centre_row, centre_column = size * rng.uniform(0.42, 0.58, 2)
    angle = np.arctan2(rows - centre_row, columns - centre_column)
    radius = size * rng.uniform(0.15, 0.32)
    contour = sum(rng.normal(0, 0.25 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 7))
    level = radius * (1 + 0.5 * contour) - np.hypot(rows - centre_row, columns - centre_column)
    texture = _noise(rng, size, 3 * scale) * 2.5 * scale + _noise(rng, size, 10 * scale) * 5 * scale
    reference = level + texture > 0

    shift_rows = _noise(rng, size, 90 * scale) * displacement * scale
    shift_columns = _noise(rng, size, 90 * scale) * displacement * scale
    warped = map_coordinates(level + texture, [rows + shift_rows, columns + shift_columns], order=1, mode="nearest")
    prediction = warped + _noise(rng, size, 4 * scale) * 2 * scale > 0
    return prediction, reference


def vessel_pair(size: int = 1024, seed: int = 0, *, coverage: float = 0.1) -> tuple[Mask, Mask]:
    """Branching trees of thin vessels and a prediction with ragged walls, lost branches and false twigs.

    Args:
        size: side length in pixels.
        seed: same seed, same pair.
        coverage: roughly the fraction of pixels that are vessel in the reference.

    Returns:
        (prediction, reference), each (size, size) bool.
    """
    rng = np.random.default_rng(seed)
    found, lost, false = (_Trees(size) for _ in range(3))
    while found.area + lost.area < coverage * size * size:
        root = rng.uniform(0, size, 2)
        towards_centre = np.arctan2(*(size / 2 - root)) + rng.normal(0, 0.4)
        _grow(found, lost, rng, root, towards_centre, width=size * rng.uniform(0.007, 0.012))
    for _ in range(12):
        _grow(false, false, rng, rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi), width=0.004 * size)
    reference = found.draw() | lost.draw()
    seen = (found.draw() | false.draw()).astype(np.float64)
    prediction = gaussian_filter(seen, size / 1024) + 0.2 * _noise(rng, size, 2 * size / 1024) > 0.5
    return prediction, reference


def _noise(rng: np.random.Generator, size: int, sigma: float) -> NDArray[np.float64]:
    """(size, size) smooth noise of unit standard deviation."""
    spectrum = fourier_gaussian(rfft2(rng.standard_normal((size, size))), sigma, n=size)
    smooth = irfft2(spectrum, s=(size, size))
    return np.asarray(smooth / smooth.std())


class _Trees:
    """Centre lines by vessel width, drawn all at once."""

    def __init__(self, size: int) -> None:
        self.area = 0.0
        self._lines: dict[int, Mask] = {}
        self.size = size

    def add(self, points: NDArray[np.float64], width: float) -> None:
        line = self._lines.setdefault(max(1, round(width)), np.zeros((self.size, self.size), dtype=bool))
        rows, columns = points.round().astype(int).T
        line[rows, columns] = True
        self.area += len(points) * width

    def draw(self) -> Mask:
        mask = np.zeros((self.size, self.size), dtype=bool)
        for width, line in self._lines.items():
            mask |= distance_transform_edt(~line) <= width / 2
        return mask


def _grow(
    found: _Trees, lost: _Trees, rng: np.random.Generator, start: NDArray[np.float64], angle: float, width: float
) -> None:
    """Add a vessel and its branches to `found`; now and then a thin branch with all that follows to `lost`."""
    pending = [(start, angle, width, found)]
    while pending:
        start, angle, width, trees = pending.pop()
        angles = angle + rng.normal(0, 0.05, rng.integers(60, 160)).cumsum()
        points = start + np.stack([np.sin(angles), np.cos(angles)], axis=1).cumsum(axis=0)
        inside = ((points >= 0) & (points <= found.size - 1)).all(axis=1)
        points = points if inside.all() else points[: inside.argmin()]
        trees.add(points, width)
        if inside.all() and width > 2.5:
            for side in (-1, 1):
                thinner = width * rng.uniform(0.6, 0.95)
                branch = lost if thinner < 4 and rng.random() < 0.12 else trees
                pending.append((points[-1], angles[-1] + side * rng.uniform(0.3, 0.9), thinner, branch))
