"""Faults of ultrasound: speckle and acoustic shadow."""

from __future__ import annotations

import numpy as np

from harness.data.corruptions.corruption import Pixels, side_of

_GRAIN = (0.004, 0.009)
"""Standard deviation of a grain down and across, as shares of the shorter side: resolution across the beam is lower."""
_RAYLEIGH_MEAN, _RAYLEIGH_DEVIATION = np.sqrt(np.pi / 2), np.sqrt(2 - np.pi / 2)
_APEX = 0.8
"""Above the image, in heights: where the beams, and with them the edges of a shadow, come from."""


def speckle(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Multiplied by grains whose amplitude has the Rayleigh distribution, as echoes of many small scatterers have.

    Args:
        level: standard deviation of the factor around 1.
    """
    from scipy.ndimage import gaussian_filter  # in here: `list` names the corruptions, and needs no scipy

    sigma = [max(0.5, share * side_of(image)) for share in _GRAIN]
    parts = gaussian_filter(rng.standard_normal((2, *image.shape[:2]), dtype=np.float32), (0, *sigma), mode="wrap")
    # Smoothing lowers the deviation of white noise by a known factor for a Gaussian; small grids differ: it is measured.
    parts /= np.sqrt(np.mean(parts**2)) + np.float32(1e-12)
    grains = (np.hypot(*parts) - _RAYLEIGH_MEAN) / _RAYLEIGH_DEVIATION
    return image * (1 + np.float32(level) * grains.astype(np.float32))[..., None]


def shadow(image: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Dark below two strong reflectors: bands along the beams, with soft edges, that start at a depth by chance.

    Args:
        level: share of the light that is lost in the middle of a shadow.
    """
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    depth, across = (y + 0.5) / height, (x + 0.5) / width - 0.5
    beam = across / (_APEX + depth) * (_APEX + 0.5)
    dark = np.zeros((height, width), np.float32)
    for side in (-1, 1):
        middle, half, start = side * rng.uniform(0.08, 0.3), rng.uniform(0.04, 0.09), rng.uniform(0.1, 0.4)
        inside = 1 / (1 + np.exp(np.clip((np.abs(beam - middle) - half) / 0.018, -50, 50)))
        below = 1 / (1 + np.exp(np.clip((start - depth) / 0.02, -50, 50)))
        dark = np.maximum(dark, inside * below)
    return image * (1 - np.float32(level) * dark)[..., None]
