"""Metrics of borders and of thin structures: boundary IoU and centreline Dice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.metrics.inputs import Mask
from harness.metrics.mask_pair import MaskPair

BOUNDARY_SHARE = 0.02
"""Of the image's diagonal: how wide the band inside a border is that boundary IoU compares (the authors' choice)."""


def boundary_iou(pair: MaskPair) -> float:
    """Intersection over union of the bands that lie inside the borders of both masks.

    The band of a mask holds its pixels that `d` erosions by a 3 x 3 square take away, where outside the image is background;
    d is 2 % of the image's diagonal in pixels, rounded, and at least 1.
    """
    height, width = pair.prediction.shape
    thickness = max(1, round(BOUNDARY_SHARE * float(np.hypot(height, width))))
    area = _box(pair.prediction | pair.reference)
    prediction, reference = (_band(mask[area], thickness) for mask in (pair.prediction, pair.reference))
    union = int(np.count_nonzero(prediction | reference))
    return int(np.count_nonzero(prediction & reference)) / union


def centreline_dice(pair: MaskPair) -> float:
    """Harmonic mean of the share of the prediction's centreline inside the reference, and the other way round.

    Centrelines are the masks' skeletons by Zhang and Suen's thinning, equal to those of scikit-image (`harness.metrics.loops`).
    """
    area = _box(pair.prediction | pair.reference)
    prediction, reference = pair.prediction[area], pair.reference[area]
    precision, sensitivity = _share(_skeleton(prediction), reference), _share(_skeleton(reference), prediction)
    total = precision + sensitivity
    return 2 * precision * sensitivity / total if total else 0.0


def _skeleton(mask: Mask) -> NDArray[np.bool_]:
    from harness.metrics.loops import REMOVALS, thin

    return thin(np.pad(mask, 1).view(np.uint8), REMOVALS)[1:-1, 1:-1].view(np.bool_)


def _share(line: NDArray[np.bool_], mask: Mask) -> float:
    """Part of the line's pixels that lie in the mask; a mask with foreground always has a centreline."""
    return int(np.count_nonzero(line & mask)) / int(np.count_nonzero(line))


def _band(mask: Mask, thickness: int) -> NDArray[np.bool_]:
    inside = np.pad(mask, thickness)
    for axis in (0, 1):
        inside = _all_along(inside, 2 * thickness + 1, axis)
    return mask & ~inside


def _all_along(mask: Mask, length: int, axis: int) -> NDArray[np.bool_]:
    """Whether each run of `length` pixels along an axis is foreground; that axis gets shorter by length - 1.

    A run of 2 n pixels is two of n: it takes log2(length) steps.
    """
    rows = mask if axis == 0 else mask.T
    reached = 1
    while reached < length:
        step = min(reached, length - reached)
        rows = rows[:-step] & rows[step:]
        reached += step
    return rows if axis == 0 else rows.T


def _box(mask: Mask) -> tuple[slice, slice]:
    """The smallest rectangle that holds all of a mask with foreground."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
