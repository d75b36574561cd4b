"""Which corruptions there are, which a modality has, and how one is applied.

The grading in five severities, and reporting what is lost relative to the clean image, follow Hendrycks and Dietterich,
Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019. The corruptions are our own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.data.corruptions import camera, endoscopy, microscopy, skin, ultrasound
from harness.data.corruptions.corruption import Corruption, generator_of
from harness.data.folder.sample import MODALITIES
from harness.errors import UserError, did_you_mean

_COLOURED = ("dermoscopy", "fundus", "microscopy", "colonoscopy")
_NOT_FIXED = tuple(name for name in MODALITIES if name != "microscopy")
"""Modalities whose patient or camera moves; a slide lies still."""

_ALL = (
    Corruption(
        "noise", "Noise", "Sensor noise: the variance grows with the light.", MODALITIES,
        (0.05, 0.09, 0.14, 0.21, 0.30), camera.noise, general=True,
    ),
    Corruption(
        "blur", "Blur", "Gaussian blur, as out of focus.", MODALITIES,
        (0.004, 0.008, 0.013, 0.020, 0.030), camera.blur, general=True,
    ),
    Corruption(
        "jpeg", "JPEG", "Compressed as JPEG of quality 40, 25, 15, 10, 6.", MODALITIES,
        (40, 25, 15, 10, 6), camera.jpeg, general=True,
    ),
    Corruption(
        "gamma", "Gamma", "Brightened or darkened along a power curve.", MODALITIES,
        (1.25, 1.5, 1.85, 2.3, 3.0), camera.gamma, general=True,
    ),
    Corruption(
        "motion", "Motion blur", "Smeared along a straight line, to both sides alike.", _NOT_FIXED,
        (0.02, 0.04, 0.07, 0.10, 0.14), camera.motion, general=True,
    ),
    Corruption(
        "colour_cast", "Colour cast", "A wrong white balance: a factor for each colour channel.", _COLOURED,
        (0.08, 0.16, 0.25, 0.36, 0.50), camera.colour_cast,
    ),
    Corruption(
        "hair", "Hair", "Dark, curved hair across the skin: 4 to 36.", ("dermoscopy",),
        (4, 8, 14, 24, 36), skin.hair,
    ),
    Corruption(
        "speckle", "Speckle", "Multiplied by grains of Rayleigh-distributed amplitude.", ("ultrasound",),
        (0.12, 0.22, 0.35, 0.50, 0.70), ultrasound.speckle,
    ),
    Corruption(
        "shadow", "Acoustic shadow", "Two dark bands along the beams, below strong reflectors.", ("ultrasound",),
        (0.30, 0.45, 0.60, 0.75, 0.90), ultrasound.shadow,
    ),
    Corruption(
        "stain", "Stain", "Stronger or weaker haematoxylin and eosin; in a grey image, density.", ("microscopy",),
        (0.15, 0.30, 0.45, 0.65, 0.90), microscopy.stain,
    ),
    Corruption(
        "bubbles", "Bubbles", "Heaps of bubbles, 12 to 140.", ("colonoscopy",),
        (12, 30, 55, 90, 140), endoscopy.bubbles,
    ),
    Corruption(
        "specular", "Specular reflections", "White reflections of the lamp, 8 to 80.", ("colonoscopy",),
        (8, 16, 30, 50, 80), endoscopy.specular,
    ),
)  # fmt: skip

CORRUPTIONS: dict[str, Corruption] = {each.name: each for each in _ALL}
"""By name, the general ones first."""


def corruption_named(name: str) -> Corruption:
    """Raises UserError where there is none of that name."""
    if name not in CORRUPTIONS:
        raise UserError(f"There is no corruption '{name}'.{did_you_mean(name, CORRUPTIONS)}")
    return CORRUPTIONS[name]


def corruptions_of(modality: str) -> list[Corruption]:
    """Those that occur in a modality; of one without a canonical name the general ones."""
    known = modality in MODALITIES
    return [each for each in _ALL if (modality in each.modalities if known else each.general)]


def corrupted(image: NDArray[np.uint8], name: str, severity: int, seed: int = 0) -> NDArray[np.uint8]:
    """The corrupted form of an image (H, W, 3) uint8, of the same shape and type.

    The same pixels, name, severity and seed give the same result, whatever is computed before or beside it.

    Args:
        severity: 1 to 5.

    Raises:
        UserError: there is no corruption of that name.
    """
    return corruption_named(name).apply(image, severity, generator_of(image, name, seed))
