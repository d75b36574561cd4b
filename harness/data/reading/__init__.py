"""Pixels: every container that images and masks come in, read to the same two forms, or refused by name.

What a pixel *shows* counts, never how it is stored: see `picture.py`. `image.py` makes RGB of it, `mask.py` a binary mask.
"""

from harness.data.reading.image import read_image
from harness.data.reading.mask import LossyMask, MaskReading, NotBinary, binary_mask, examine_mask, read_mask
from harness.data.reading.picture import SUFFIXES

__all__ = [
    "SUFFIXES",
    "LossyMask",
    "MaskReading",
    "NotBinary",
    "binary_mask",
    "examine_mask",
    "read_image",
    "read_mask",
]
