"""Masks that another tool made: read them, match them with the images of a protocol, measure them, keep them as trials."""

from harness.evaluation.external.mask_files import FORMATS, read_foreign_mask
from harness.evaluation.external.matching import ForeignMasks, match_masks
from harness.evaluation.external.trials import evaluate_foreign

__all__ = ["FORMATS", "ForeignMasks", "evaluate_foreign", "match_masks", "read_foreign_mask"]
