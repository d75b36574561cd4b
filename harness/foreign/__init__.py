"""Masks that another tool made: read them, match them with the images of a protocol, measure them, keep them as trials."""

from harness.foreign.keep import evaluate_foreign
from harness.foreign.masks import FORMATS, read_foreign_mask
from harness.foreign.matching import ForeignMasks, match_masks

__all__ = ["FORMATS", "ForeignMasks", "evaluate_foreign", "match_masks", "read_foreign_mask"]
