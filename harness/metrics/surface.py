"""Distances between the borders of two masks, exact, from one pass over the border pixels.

The border of a mask is its foreground pixels with a background 4-neighbour; what lies outside the image is
background, so foreground on the image edge is border. The directed distances d(A -> B) are, for each border pixel of
A, the Euclidean distance between pixel centres to the nearest border pixel of B. Every surface metric is a statistic
of d(P -> G) and d(G -> P), so these are computed once per pair.

A distance transform of the whole image (the usual way) computes a million distances to use a few thousand. Here the
images are cropped to the foreground and each border pixel is settled by the cheapest exact means: coinciding pixels
are 0; near ones are found by looking at the neighbouring pixels in order of distance, as long as that pays; the rest
asks a k-d tree, or, if there are very many, a distance transform of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.masks import InvalidMasks, Mask, Spacing, check_masks, check_spacing

Distances = NDArray[np.float64]
Positions = NDArray[np.intp]

RING_REACH = 4
"""How many pixels around a border pixel are looked at one by one before the k-d tree is asked."""

# Costs in nanoseconds, measured on one core: one neighbour of one pixel, the calls for one ring, one point in a k-d
# tree, one query of it, one pixel of a distance transform. They choose between exact ways, so they bear on speed and
# never on the result.
NEIGHBOUR_COST, RING_COST, POINT_COST, QUERY_COST, TRANSFORM_COST = 3.0, 10_000.0, 100.0, 600.0, 30.0


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
    """Border pixels in a frame of `RING_REACH` background pixels, so that no neighbour lies outside the array."""

    image: Mask
    positions: Positions

    @classmethod
    def of(cls, mask: Mask) -> _Border:
        height, width = mask.shape[0] + 2 * RING_REACH, mask.shape[1] + 2 * RING_REACH
        framed = np.zeros((height, width), dtype=bool)
        framed[RING_REACH:-RING_REACH, RING_REACH:-RING_REACH] = mask
        # On the flattened array a neighbour is a shift; the frame keeps rows from running into each other.
        flat = framed.ravel()
        centre = slice(width, -width)
        inner = flat[2 * width :] & flat[: -2 * width]
        inner &= flat[width - 1 : -width - 1]
        inner &= flat[width + 1 : flat.size - width + 1]
        border = np.zeros_like(flat)
        np.greater(flat[centre], inner, out=border[centre])
        return cls(border.reshape(height, width), np.flatnonzero(border))

    def coordinates(self, positions: Positions) -> tuple[Positions, Positions]:
        rows, columns = np.divmod(positions, self.image.shape[1])
        return rows, columns


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
    distances = np.zeros(source.positions.size)
    width = target.image.shape[1]
    flat = target.image.ravel()
    unsettled = np.flatnonzero(~flat[source.positions])
    positions = source.positions[unsettled]

    for distance, offsets in _rings(spacing):
        if not unsettled.size:
            return distances
        found = flat[positions + (offsets[0][0] * width + offsets[0][1])]
        for row, column in offsets[1:]:
            found |= flat[positions + (row * width + column)]
        distances[unsettled[found]] = distance
        looked_at = unsettled.size
        unsettled, positions = unsettled[~found], positions[~found]
        cost = looked_at * len(offsets) * NEIGHBOUR_COST + RING_COST
        saved = (looked_at - unsettled.size) * QUERY_COST
        # Rings are also worth going on with when settling the last pixel would spare the building of a big tree.
        if cost > max(saved, 0.05 * target.positions.size * POINT_COST):
            break

    if unsettled.size:
        distances[unsettled] = _far_distances(source, target, positions, spacing)
    return distances


@lru_cache(maxsize=64)
def _rings(spacing: tuple[float, float]) -> tuple[tuple[float, tuple[tuple[int, int], ...]], ...]:
    """Neighbours by increasing distance: (distance, its (row, column) offsets), complete as far as it goes."""
    reach = range(-RING_REACH, RING_REACH + 1)
    by_distance: dict[float, list[tuple[int, int]]] = {}
    for row in reach:
        for column in reach:
            by_distance.setdefault(float(_length(row, column, spacing)), []).append((row, column))
    # Beyond this distance some neighbours lie outside the square that is looked at.
    complete = (RING_REACH + 1) * min(spacing)
    return tuple((d, tuple(offsets)) for d, offsets in sorted(by_distance.items()) if 0 < d < complete)


def _far_distances(source: _Border, target: _Border, positions: Positions, spacing: tuple[float, float]) -> Distances:
    # SciPy's spatial parts take a third of a second to import: `list` shows the registry without them.
    from scipy.ndimage import distance_transform_edt
    from scipy.spatial import KDTree

    rows, columns = source.coordinates(positions)
    tree_cost = target.positions.size * POINT_COST + positions.size * QUERY_COST
    if tree_cost > target.image.size * TRANSFORM_COST:
        nearest_rows, nearest_columns = distance_transform_edt(
            ~target.image, sampling=spacing, return_distances=False, return_indices=True
        )
        nearest = nearest_rows[rows, columns], nearest_columns[rows, columns]
    else:
        target_rows, target_columns = target.coordinates(target.positions)
        # Few queries per tree: a quick build (unbalanced, large leaves) saves more than it costs.
        tree = KDTree(
            np.stack([target_rows * spacing[0], target_columns * spacing[1]], axis=1),
            leafsize=32,
            balanced_tree=False,
            compact_nodes=False,
        )
        _, index = tree.query(np.stack([rows * spacing[0], columns * spacing[1]], axis=1))
        nearest = target_rows[index], target_columns[index]
    # From whole pixels, so that the same offset gives the same distance wherever it lies and whichever way found it.
    return _length(rows - nearest[0], columns - nearest[1], spacing)


def _length(rows: Positions | int, columns: Positions | int, spacing: tuple[float, float]) -> Distances:
    return np.sqrt((rows * spacing[0]) ** 2 + (columns * spacing[1]) ** 2)
