"""Masks that another tool made: read them, match them with the images of a protocol, measure them, keep them as trials."""

from harness.evaluation.external.mask_files import FORMATS, read_external_mask
from harness.evaluation.external.matching import ExternalMasks, match_masks
from harness.evaluation.external.trials import evaluate_external

__all__ = ["FORMATS", "ExternalMasks", "evaluate_external", "match_masks", "read_external_mask"]
