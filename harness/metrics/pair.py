"""The metrics of one image: each as a function, and all at once by `evaluate_pair`."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real

from numpy.typing import ArrayLike

from harness.errors import TrialFailed, UserError, described, raise_stop_behind
from harness.metrics.empty import DEFAULT_EMPTY_POLICY, EmptyPolicy, empty_policy
from harness.metrics.inputs import InvalidMasks, Spacing
from harness.metrics.mask_pair import MaskPair
from harness.metrics.registry import REGISTRY, Metric, Settings
from harness.metrics.registry import metric as find_metric
from harness.metrics.surface import check_tolerance

DEFAULT_NSD_TOLERANCE = 2.0


def evaluate_pair(
    prediction: ArrayLike,
    reference: ArrayLike,
    *,
    spacing: Spacing = (1.0, 1.0),
    nsd_tolerance: float = DEFAULT_NSD_TOLERANCE,
    empty: str = DEFAULT_EMPTY_POLICY,
    metrics: Iterable[str] | None = None,
) -> dict[str, float]:
    """Metrics of one image, the surface ones from a single pass over its border pixels.

    Args:
        prediction, reference: (H, W) bool, at the reference's native resolution.
        spacing: distance between neighbouring (rows, columns), one number for square pixels; the unit of all
            distances and of `nsd_tolerance`. The default measures in pixels.
        nsd_tolerance: in spacing units, >= 0.
        empty: name of the policy for masks without foreground, see `EMPTY_POLICIES`.
        metrics: names in `REGISTRY`; None: all of it.

    Returns:
        One value for each name, in the order given.

    Raises:
        InvalidMasks: masks that are not bool, not 2-D or of unequal shape; bad spacing or tolerance.
        UserError: unknown policy or metric.
        TrialFailed: a metric of one's own raised an error, or gave no number.
    """
    pair, policy = MaskPair.of(prediction, reference, spacing), empty_policy(empty)
    settings = Settings(check_tolerance(nsd_tolerance))
    chosen = REGISTRY.values() if metrics is None else [find_metric(name) for name in metrics]
    return {metric.name: _value(metric, pair, policy, settings) for metric in chosen}


def _value(metric: Metric, pair: MaskPair, policy: EmptyPolicy, settings: Settings) -> float:
    if pair.counts.empty != "none":
        return policy.value(metric, pair.counts.empty, pair.diagonal)
    try:
        value = metric.compute(pair, settings)
    except (InvalidMasks, UserError, MemoryError):
        raise
    except Exception as error:  # a metric of one's own may raise anything
        raise_stop_behind(error)
        raise TrialFailed(f"The metric '{metric.name}' failed: {described(error)}") from error
    if not isinstance(value, Real):  # it would spoil the table that is kept, and every report of it
        raise TrialFailed(
            f"The metric '{metric.name}': expected a number, found {value!r:.100} ({type(value).__name__})."
        )
    return float(value)


def dice(prediction: ArrayLike, reference: ArrayLike, *, empty: str = DEFAULT_EMPTY_POLICY) -> float:
    """Dice coefficient 2 |P and G| / (|P| + |G|), in [0, 1]. Masks (H, W) bool; see `evaluate_pair`."""
    return _one("dice", prediction, reference, empty)


def iou(prediction: ArrayLike, reference: ArrayLike, *, empty: str = DEFAULT_EMPTY_POLICY) -> float:
    """Intersection over union (Jaccard index), in [0, 1]. Masks (H, W) bool; see `evaluate_pair`."""
    return _one("iou", prediction, reference, empty)


def precision(prediction: ArrayLike, reference: ArrayLike, *, empty: str = DEFAULT_EMPTY_POLICY) -> float:
    """Share of the prediction that is right, in [0, 1]. Masks (H, W) bool; see `evaluate_pair`."""
    return _one("precision", prediction, reference, empty)


def recall(prediction: ArrayLike, reference: ArrayLike, *, empty: str = DEFAULT_EMPTY_POLICY) -> float:
    """Share of the reference that is found, in [0, 1]. Masks (H, W) bool; see `evaluate_pair`."""
    return _one("recall", prediction, reference, empty)


def hd95(
    prediction: ArrayLike, reference: ArrayLike, *, spacing: Spacing = None, empty: str = DEFAULT_EMPTY_POLICY
) -> float:
    """95th percentile of the border distances of both directions pooled (medpy's definition), in spacing units.

    A far false-positive island with fewer than 5 % of the border pixels doesn't show in it; see `hd95_max`.
    Masks (H, W) bool; see `evaluate_pair`.
    """
    return _one("hd95", prediction, reference, empty, spacing=spacing)


def hd95_max(
    prediction: ArrayLike, reference: ArrayLike, *, spacing: Spacing = None, empty: str = DEFAULT_EMPTY_POLICY
) -> float:
    """Larger of the two directed 95th percentiles (Metrics Reloaded's and MONAI's definition), in spacing units.

    Masks (H, W) bool; see `evaluate_pair`.
    """
    return _one("hd95_max", prediction, reference, empty, spacing=spacing)


def hd(
    prediction: ArrayLike, reference: ArrayLike, *, spacing: Spacing = None, empty: str = DEFAULT_EMPTY_POLICY
) -> float:
    """Hausdorff distance of the borders, in spacing units. Masks (H, W) bool; see `evaluate_pair`."""
    return _one("hd", prediction, reference, empty, spacing=spacing)


def assd(
    prediction: ArrayLike, reference: ArrayLike, *, spacing: Spacing = None, empty: str = DEFAULT_EMPTY_POLICY
) -> float:
    """Average symmetric surface distance: mean of both directions pooled, in spacing units.

    Masks (H, W) bool; see `evaluate_pair`.
    """
    return _one("assd", prediction, reference, empty, spacing=spacing)


def nsd(
    prediction: ArrayLike,
    reference: ArrayLike,
    *,
    tolerance: float = DEFAULT_NSD_TOLERANCE,
    spacing: Spacing = None,
    empty: str = DEFAULT_EMPTY_POLICY,
) -> float:
    """Normalised surface distance: share of all border pixels within `tolerance` of the other border, in [0, 1].

    `tolerance` is in spacing units, >= 0; a distance equal to it counts as within. After Nikolov et al.,
    arXiv:1809.04430, on border pixels as in Metrics Reloaded. Masks (H, W) bool; see `evaluate_pair`.
    """
    checked = check_tolerance(tolerance)
    return _one("nsd", prediction, reference, empty, spacing=spacing, tolerance=checked)


def boundary_iou(prediction: ArrayLike, reference: ArrayLike, *, empty: str = DEFAULT_EMPTY_POLICY) -> float:
    """IoU of the bands inside the masks' borders, 2 % of the image's diagonal wide, in [0, 1] (Cheng et al., CVPR 2021).

    Masks (H, W) bool; see `evaluate_pair`.
    """
    return _one("boundary_iou", prediction, reference, empty)


def cldice(prediction: ArrayLike, reference: ArrayLike, *, empty: str = DEFAULT_EMPTY_POLICY) -> float:
    """Centreline Dice, in [0, 1] (Shit et al., CVPR 2021). Masks (H, W) bool; see `evaluate_pair`."""
    return _one("cldice", prediction, reference, empty)


def _one(
    name: str,
    prediction: ArrayLike,
    reference: ArrayLike,
    empty: str,
    *,
    spacing: Spacing = None,
    tolerance: float = DEFAULT_NSD_TOLERANCE,
) -> float:
    policy = empty_policy(empty)
    return _value(REGISTRY[name], MaskPair.of(prediction, reference, spacing), policy, Settings(tolerance))
