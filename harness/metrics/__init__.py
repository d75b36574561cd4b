"""Segmentation metrics of one image on two (H, W) bool masks.

`evaluate_pair` gives all of them from one pass; each is a function of its own too. Each is one object in `registry`, with its
definition and source; the rules for empty masks in `EMPTY_POLICIES`. Needs NumPy, SciPy and Numba.
"""

from harness.metrics.empty import DEFAULT_EMPTY_POLICY, EMPTY_POLICIES, EmptyPolicy, empty_policy
from harness.metrics.inputs import EmptyKind, InvalidMasks, PixelCounts
from harness.metrics.pair import (
    DEFAULT_NSD_TOLERANCE,
    assd,
    boundary_iou,
    cldice,
    dice,
    evaluate_pair,
    hd,
    hd95,
    hd95_max,
    iou,
    nsd,
    precision,
    recall,
)
from harness.metrics.registry import REGISTRY, Metric, metric, register, shown_metrics
from harness.metrics.surface import SurfaceDistances, surface_distances

__all__ = [
    "DEFAULT_EMPTY_POLICY",
    "DEFAULT_NSD_TOLERANCE",
    "EMPTY_POLICIES",
    "REGISTRY",
    "EmptyKind",
    "EmptyPolicy",
    "InvalidMasks",
    "Metric",
    "PixelCounts",
    "SurfaceDistances",
    "assd",
    "boundary_iou",
    "cldice",
    "dice",
    "empty_policy",
    "evaluate_pair",
    "hd",
    "hd95",
    "hd95_max",
    "iou",
    "metric",
    "nsd",
    "precision",
    "recall",
    "register",
    "shown_metrics",
    "surface_distances",
]
