"""What a metric accepts: two boolean masks of one image, and the size of its pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]
Spacing = float | Sequence[float] | None
EmptyKind = Literal["none", "both", "prediction", "reference"]


class InvalidMasks(ValueError):
    """Masks, spacing or tolerance that no metric is defined for; says what was expected and what was found."""


def check_masks(prediction: ArrayLike, reference: ArrayLike) -> tuple[Mask, Mask]:
    """The two masks as arrays.

    Args:
        prediction, reference: (H, W) bool, same shape, at least one pixel. Numbers are refused rather than
            thresholded: 0/255, 0/1 and probabilities each need another threshold, which only the caller knows.

    Raises:
        InvalidMasks: another dtype, another number of dimensions, unequal shapes, or no pixels.
    """
    first, second = _check_mask(prediction, "prediction"), _check_mask(reference, "reference")
    if first.shape != second.shape:
        raise InvalidMasks(
            f"expected prediction and reference of one shape; found {first.shape} and {second.shape}. "
            "Resize the prediction to the reference's native resolution (nearest neighbour)."
        )
    return first, second


def _check_mask(mask: ArrayLike, role: str) -> Mask:
    array = np.asarray(mask)
    if array.ndim != 2:
        raise InvalidMasks(
            f"expected a 2-D (height, width) {role} mask; found shape {array.shape}. "
            "Pass one image and one class at a time."
        )
    if array.dtype != np.bool_:
        raise InvalidMasks(
            f"expected a bool {role} mask; found {array.dtype}. "
            "Threshold it first, for example mask > 0 for 0/255 or probability >= 0.5."
        )
    if array.size == 0:
        raise InvalidMasks(f"expected a {role} mask with pixels; found shape {array.shape}.")
    # NumPy makes bools of byte 255 of Pillow's 1-bit images; code in C takes them for 255, or crashes.
    raw = array.view(np.uint8)
    return array if raw.max() <= 1 else raw != 0


def check_spacing(spacing: Spacing) -> tuple[float, float]:
    """Distance between neighbouring (rows, columns); one number means square pixels, None means 1.

    Raises:
        InvalidMasks: not one or two positive finite numbers.
    """
    if spacing is None:
        return 1.0, 1.0
    try:
        values = tuple(np.atleast_1d(np.asarray(spacing, dtype=np.float64)).tolist())
    except (TypeError, ValueError):
        values = ()
    if len(values) == 1:
        values *= 2
    if len(values) != 2 or not all(math.isfinite(value) and value > 0 for value in values):
        raise InvalidMasks(f"expected spacing as one or two (row, column) positive numbers; found {spacing!r}.")
    return values[0], values[1]


@dataclass(frozen=True)
class PixelCounts:
    """Foreground pixels of a pair of masks, and of their intersection."""

    predicted: int
    reference: int
    both: int

    @classmethod
    def of(cls, prediction: Mask, reference: Mask) -> PixelCounts:
        return cls(
            predicted=int(np.count_nonzero(prediction)),
            reference=int(np.count_nonzero(reference)),
            both=int(np.count_nonzero(prediction & reference)),
        )

    @property
    def empty(self) -> EmptyKind:
        """Which of the masks has no foreground."""
        if self.predicted and self.reference:
            return "none"
        if self.predicted or self.reference:
            return "reference" if self.predicted else "prediction"
        return "both"
