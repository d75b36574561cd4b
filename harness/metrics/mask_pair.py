"""`MaskPair`: a predicted and a reference mask, with what several metrics need of them, computed once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from numpy.typing import ArrayLike

from harness.metrics.inputs import Mask, PixelCounts, Spacing, check_masks, check_spacing
from harness.metrics.surface import SurfaceDistances, surface_distances


@dataclass(frozen=True)
class MaskPair:
    """Two masks (H, W) bool of one image; `spacing` is the distance between neighbouring (rows, columns)."""

    prediction: Mask
    reference: Mask
    spacing: tuple[float, float]

    @classmethod
    def of(cls, prediction: ArrayLike, reference: ArrayLike, spacing: Spacing) -> MaskPair:
        """Checks the masks and the spacing.

        Raises:
            InvalidMasks: masks that are not bool, not 2-D or of unequal shape; bad spacing.
        """
        return cls(*check_masks(prediction, reference), check_spacing(spacing))

    @cached_property
    def counts(self) -> PixelCounts:
        return PixelCounts.of(self.prediction, self.reference)

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Distances between the borders, in spacing units; both masks must have foreground."""
        return surface_distances(self.prediction, self.reference, spacing=self.spacing)

    @property
    def diagonal(self) -> float:
        """Of the image, in spacing units."""
        height, width = self.prediction.shape
        return math.hypot(height * self.spacing[0], width * self.spacing[1])
