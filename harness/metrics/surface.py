"""Distances between the borders of two masks, exact, from one pass over the border pixels.

The border of a mask is its foreground pixels with a background 4-neighbour; what lies outside the image is
background, so foreground on the image edge is border. The directed distances d(A -> B) are, for each border pixel of
A, the Euclidean distance between pixel centres to the nearest border pixel of B. Every surface metric is a statistic
of d(P -> G) and d(G -> P), so these are computed once per pair.

A distance transform of the whole image (the usual way) computes a million distances to use a few thousand. Here the
images are cropped to the foreground and each border pixel is settled by the cheapest exact means: near ones are found by
looking at the neighbouring pixels in order of distance; for the rest, the way up or down to the nearest border pixel is noted
for each pixel of the crop, and then the columns left and right are searched, for one pixel or for a whole row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.inputs import InvalidMasks, Mask, Spacing, check_masks, check_spacing

Distances = NDArray[np.float64]
Positions = NDArray[np.intp]

REACH = 6
"""How many pixels around a border pixel are looked at one by one; it bears on speed and never on the result."""


@dataclass(frozen=True)
class SurfaceDistances:
    """The directed border distances of a pair of non-empty masks, and the metrics that follow from them.

    Attributes:
        prediction_to_reference: (border pixels of the prediction,) float64, in spacing units.
        reference_to_prediction: (border pixels of the reference,) float64, in spacing units.
    """

    prediction_to_reference: Distances
    reference_to_prediction: Distances

    @cached_property
    def pooled(self) -> Distances:
        return np.concatenate([self.prediction_to_reference, self.reference_to_prediction])

    @property
    def hd95(self) -> float:
        """95th percentile (linear interpolation) of both directions pooled."""
        return float(np.percentile(self.pooled, 95))

    @property
    def hd95_max(self) -> float:
        """Larger of the two directed 95th percentiles."""
        return max(
            float(np.percentile(self.prediction_to_reference, 95)),
            float(np.percentile(self.reference_to_prediction, 95)),
        )

    @property
    def hd(self) -> float:
        """Largest distance."""
        return max(float(self.prediction_to_reference.max()), float(self.reference_to_prediction.max()))

    @property
    def assd(self) -> float:
        """Mean of both directions pooled."""
        return float(self.pooled.mean())

    def nsd(self, tolerance: float) -> float:
        """Share of the border pixels of both masks that lie within `tolerance` (spacing units) of the other border.

        Raises:
            InvalidMasks: a negative or non-finite tolerance.
        """
        tolerance = check_tolerance(tolerance)
        # The slack lets a distance equal to the tolerance count in every unit: 3 * 0.1 mm is within 0.3 mm.
        return float(np.count_nonzero(self.pooled <= tolerance * (1 + 1e-9))) / self.pooled.size


def check_tolerance(tolerance: float) -> float:
    """`tolerance` if it is a finite number >= 0, else InvalidMasks."""
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise InvalidMasks(f"expected an NSD tolerance >= 0 in spacing units; found {tolerance!r}.")
    return float(tolerance)


def surface_distances(prediction: ArrayLike, reference: ArrayLike, *, spacing: Spacing = None) -> SurfaceDistances:
    """Both directed distances of a pair, exact; in row-major order of the border pixels.

    Args:
        prediction, reference: (H, W) bool, each with foreground.
        spacing: distance between neighbouring (rows, columns); None means 1 pixel.

    Raises:
        InvalidMasks: masks or spacing as `check_masks` and `check_spacing` say, or a mask without foreground.
    """
    masks = check_masks(prediction, reference)
    row_spacing, column_spacing = check_spacing(spacing)
    for mask, role in zip(masks, ("prediction", "reference"), strict=True):
        if not mask.any():
            raise InvalidMasks(
                f"expected a {role} mask with foreground; found an empty one, which has no border. "
                "evaluate_pair and the metric functions apply an empty-mask policy instead."
            )
    first, second = (_Border.of(mask) for mask in _crop(*masks))
    return SurfaceDistances(
        _directed(first, second, (row_spacing, column_spacing)),
        _directed(second, first, (row_spacing, column_spacing)),
    )


@dataclass(frozen=True)
class _Border:
    """Border pixels in a frame of `REACH` background pixels, so that no neighbour lies outside the array."""

    image: Mask
    positions: Positions

    @classmethod
    def of(cls, mask: Mask) -> _Border:
        framed = np.pad(mask, REACH)
        height, width = framed.shape
        # On the flattened array a neighbour is a shift; the frame keeps rows from running into each other.
        flat = framed.ravel()
        centre = slice(width, -width)
        inner = flat[2 * width :] & flat[: -2 * width]
        inner &= flat[width - 1 : -width - 1]
        inner &= flat[width + 1 : flat.size - width + 1]
        border = np.zeros_like(flat)
        np.greater(flat[centre], inner, out=border[centre])
        return cls(border.reshape(height, width), np.flatnonzero(border))


def _crop(prediction: Mask, reference: Mask) -> tuple[Mask, Mask]:
    """Both masks cut to the bounding box of their union."""
    union = prediction | reference
    window = []
    for axis in (1, 0):
        occupied = np.flatnonzero(union.any(axis=axis))
        window.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    rows, columns = window
    return prediction[rows, columns], reference[rows, columns]


def _directed(source: _Border, target: _Border, spacing: tuple[float, float]) -> Distances:
    """For each border pixel of `source`, the distance to the nearest border pixel of `target`."""
    from harness.metrics.loops import first_reached, nearest

    rows, columns, lengths = _neighbours(spacing)
    reached = first_reached(target.image.ravel(), source.positions, rows * target.image.shape[1] + columns)
    distances = lengths[reached]
    far = np.flatnonzero(reached == lengths.size - 1)
    if far.size:
        distances[far] = _length(*nearest(target.image, source.positions[far], *spacing), spacing)
    return distances


@lru_cache(maxsize=64)
def _neighbours(spacing: tuple[float, float]) -> tuple[Positions, Positions, Distances]:
    """(K,) rows and columns of the pixels around one, itself first, by increasing distance, and these distances, in spacing
    units; the last one is infinity, for all that lies farther than any pixel outside the square that is looked at."""
    rows, columns = (part.ravel() for part in np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1])
    lengths = _length(rows, columns, spacing)
    near = np.flatnonzero(lengths < (REACH + 1) * min(spacing))
    near = near[np.argsort(lengths[near], kind="stable")]
    return rows[near], columns[near], np.append(lengths[near], np.inf)


def _length(rows: Positions | int, columns: Positions | int, spacing: tuple[float, float]) -> Distances:
    return np.sqrt((rows * spacing[0]) ** 2 + (columns * spacing[1]) ** 2)
