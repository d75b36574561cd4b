"""Tiny imitations of the archives of public datasets, written by hand from their documented names, never from our recipes."""

from tests.support.imitations import colonoscopy, fundus, microscopy, optic_disc, skin, ultrasound, xray
from tests.support.imitations.download import IMITATIONS, Download, Expected, Imitation

__all__ = [
    "IMITATIONS", "Download", "Expected", "Imitation",
    "colonoscopy", "fundus", "microscopy", "optic_disc", "skin", "ultrasound", "xray",
]  # fmt: skip
