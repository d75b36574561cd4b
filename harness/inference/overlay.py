"""A mask's outline drawn on its image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LINE = (255, 208, 0)
"""Yellow, as the prediction has in the report."""
PIXELS_PER_LINE_WIDTH = 400
"""The line is one pixel wide for each so many of the image's shorter side."""


def outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image (H, W, 3) with the outline of mask (H, W) in yellow, with a dark rim on its outer side.

    The line lies outside of the object, so that thin ones stay to be seen; none runs along the image's frame.
    """
    from scipy.ndimage import maximum_filter

    width = max(1, round(min(mask.shape) / PIXELS_PER_LINE_WIDTH))
    line = maximum_filter(mask, 2 * width + 1) & ~mask
    rim = maximum_filter(mask, 4 * width + 1) & ~mask & ~line
    drawn = image.copy()
    drawn[rim] = (drawn[rim] * 0.4).astype(np.uint8)
    drawn[line] = LINE
    return drawn
