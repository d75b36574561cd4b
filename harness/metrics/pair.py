"""The metrics of one image: each as a function, and all at once by `evaluate_pair`."""

from __future__ import annotations

import math
from collections.abc import Callable

from numpy.typing import ArrayLike

from harness.metrics.empty import DEFAULT_EMPTY_POLICY, empty_policy
from harness.metrics.masks import PixelCounts, Spacing, check_masks, check_spacing
from harness.metrics.registry import REGISTRY
from harness.metrics.surface import SurfaceDistances, check_tolerance, surface_distances

METRIC_VERSION = "1"
"""Raised whenever any metric's value could change for any pair of masks; part of every trial's identity."""

DEFAULT_NSD_TOLERANCE = 2.0

_OVERLAP: dict[str, Callable[[PixelCounts], float]] = {
    "dice": lambda n: 2 * n.both / (n.predicted + n.reference),
    "iou": lambda n: n.both / (n.predicted + n.reference - n.both),
    "precision": lambda n: n.both / n.predicted,
    "recall": lambda n: n.both / n.reference,
}


def evaluate_pair(
    prediction: ArrayLike,
    reference: ArrayLike,
    *,
    spacing: Spacing = (1.0, 1.0),
    nsd_tolerance: float = DEFAULT_NSD_TOLERANCE,
    empty: str = DEFAULT_EMPTY_POLICY,
) -> dict[str, float]:
    """All metrics of one image, the surface ones from a single pass over its border pixels.

    Args:
        prediction, reference: (H, W) bool, at the reference's native resolution.
        spacing: distance between neighbouring (rows, columns), one number for square pixels; the unit of all
            distances and of `nsd_tolerance`. The default measures in pixels.
        nsd_tolerance: in spacing units, >= 0.
        empty: name of the policy for masks without foreground, see `EMPTY_POLICIES`.

    Returns:
        One value for each name in `REGISTRY`, in its order.

    Raises:
        InvalidMasks: masks that are not bool, not 2-D or of unequal shape; bad spacing or tolerance.
        UserError: unknown policy.
    """
    first, second = check_masks(prediction, reference)
    policy, pixel_size, tolerance = empty_policy(empty), check_spacing(spacing), check_tolerance(nsd_tolerance)
    counts = PixelCounts.of(first, second)
    if counts.empty != "none":
        diagonal = math.hypot(first.shape[0] * pixel_size[0], first.shape[1] * pixel_size[1])
        return {name: policy.value(name, counts.empty, diagonal) for name in REGISTRY}
    distances = surface_distances(first, second, spacing=pixel_size)
    return {name: function(counts) for name, function in _OVERLAP.items()} | {
        "hd95": distances.hd95,
        "hd95_max": distances.hd95_max,
        "hd": distances.hd,
        "assd": distances.assd,
        "nsd": distances.nsd(tolerance),
    }


def dice(prediction: ArrayLike, reference: ArrayLike, *, empty: str = DEFAULT_EMPTY_POLICY) -> float:
    """Dice coefficient 2 |P and G| / (|P| + |G|), in [0, 1]. Masks (H, W) bool; see `evaluate_pair`."""
    return _overlap("dice", prediction, reference, empty)


def iou(prediction: ArrayLike, reference: ArrayLike, *, empty: str = DEFAULT_EMPTY_POLICY) -> float:
    """Intersection over union (Jaccard index), in [0, 1]. Masks (H, W) bool; see `evaluate_pair`."""
    return _overlap("iou", prediction, reference, empty)


def precision(prediction: ArrayLike, reference: ArrayLike, *, empty: str = DEFAULT_EMPTY_POLICY) -> float:
    """Share of the prediction that is right, in [0, 1]. Masks (H, W) bool; see `evaluate_pair`."""
    return _overlap("precision", prediction, reference, empty)


def recall(prediction: ArrayLike, reference: ArrayLike, *, empty: str = DEFAULT_EMPTY_POLICY) -> float:
    """Share of the reference that is found, in [0, 1]. Masks (H, W) bool; see `evaluate_pair`."""
    return _overlap("recall", prediction, reference, empty)


def hd95(
    prediction: ArrayLike, reference: ArrayLike, *, spacing: Spacing = None, empty: str = DEFAULT_EMPTY_POLICY
) -> float:
    """95th percentile of the border distances of both directions pooled (medpy's definition), in spacing units.

    A far false-positive island with fewer than 5 % of the border pixels doesn't show in it; see `hd95_max`.
    Masks (H, W) bool; see `evaluate_pair`.
    """
    return _surface("hd95", prediction, reference, spacing, empty, lambda d: d.hd95)


def hd95_max(
    prediction: ArrayLike, reference: ArrayLike, *, spacing: Spacing = None, empty: str = DEFAULT_EMPTY_POLICY
) -> float:
    """Larger of the two directed 95th percentiles (Metrics Reloaded's and MONAI's definition), in spacing units.

    Masks (H, W) bool; see `evaluate_pair`.
    """
    return _surface("hd95_max", prediction, reference, spacing, empty, lambda d: d.hd95_max)


def hd(
    prediction: ArrayLike, reference: ArrayLike, *, spacing: Spacing = None, empty: str = DEFAULT_EMPTY_POLICY
) -> float:
    """Hausdorff distance of the borders, in spacing units. Masks (H, W) bool; see `evaluate_pair`."""
    return _surface("hd", prediction, reference, spacing, empty, lambda d: d.hd)


def assd(
    prediction: ArrayLike, reference: ArrayLike, *, spacing: Spacing = None, empty: str = DEFAULT_EMPTY_POLICY
) -> float:
    """Average symmetric surface distance: mean of both directions pooled, in spacing units.

    Masks (H, W) bool; see `evaluate_pair`.
    """
    return _surface("assd", prediction, reference, spacing, empty, lambda d: d.assd)


def nsd(
    prediction: ArrayLike,
    reference: ArrayLike,
    *,
    tolerance: float = DEFAULT_NSD_TOLERANCE,
    spacing: Spacing = None,
    empty: str = DEFAULT_EMPTY_POLICY,
) -> float:
    """Normalised surface distance: share of all border pixels within `tolerance` of the other border, in [0, 1].

    `tolerance` is in spacing units, >= 0; a distance equal to it counts as within. After Nikolov et al.,
    arXiv:1809.04430, on border pixels as in Metrics Reloaded. Masks (H, W) bool; see `evaluate_pair`.
    """
    checked = check_tolerance(tolerance)
    return _surface("nsd", prediction, reference, spacing, empty, lambda d: d.nsd(checked))


def _overlap(name: str, prediction: ArrayLike, reference: ArrayLike, empty: str) -> float:
    policy = empty_policy(empty)
    counts = PixelCounts.of(*check_masks(prediction, reference))
    if counts.empty != "none":
        return policy.value(name, counts.empty, math.nan)
    return _OVERLAP[name](counts)


def _surface(
    name: str,
    prediction: ArrayLike,
    reference: ArrayLike,
    spacing: Spacing,
    empty: str,
    statistic: Callable[[SurfaceDistances], float],
) -> float:
    first, second = check_masks(prediction, reference)
    policy, (row_spacing, column_spacing) = empty_policy(empty), check_spacing(spacing)
    kind = PixelCounts.of(first, second).empty
    if kind != "none":
        diagonal = math.hypot(first.shape[0] * row_spacing, first.shape[1] * column_spacing)
        return policy.value(name, kind, diagonal)
    return statistic(surface_distances(first, second, spacing=(row_spacing, column_spacing)))
