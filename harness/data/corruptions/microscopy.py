"""Faults of microscopy: uneven strength of the stains."""

from __future__ import annotations

import numpy as np

from harness.data.corruptions.corruption import Pixels, is_grey

# Optical density of haematoxylin and eosin in red, green and blue: Ruifrok and Johnston, Analytical and Quantitative
# Cytology and Histology 23, 2001. The third row is at a right angle to both and keeps what neither stain explains.
_HAEMATOXYLIN, _EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
_LEAST = 1 / 256
"""Of the light: darker than this counts as this, for the logarithm's sake."""


def stain(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Stronger or weaker haematoxylin and eosin, each by a factor by chance. A grey image: a stronger or weaker density.

    Args:
        level: natural logarithm of the largest factor.
    """
    signs, sizes = rng.choice([-1.0, 1.0], 2), rng.uniform(0.6, 1.0, 2)
    factors = np.exp(level * signs * sizes)
    density = -np.log(np.maximum(image, _LEAST))
    if is_grey(image):
        return np.exp(-density * np.float32(factors[0]))
    third = np.cross(_HAEMATOXYLIN, _EOSIN)
    stains = np.array([_HAEMATOXYLIN, _EOSIN, third / np.linalg.norm(third)])
    amounts = density @ np.linalg.inv(stains).astype(np.float32)
    changed = amounts * np.array([*factors, 1], np.float32)
    return np.exp(-np.maximum(changed @ stains.astype(np.float32), 0))
