"""What a metric is worth when a mask has no foreground: always decided by a named policy, never by accident.

Leaving such images out rewards a model that finds nothing: its distances become undefined and drop out of the mean
just where it fails. The default policy therefore gives every image a finite value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import UserError, did_you_mean
from harness.metrics.inputs import EmptyKind
from harness.metrics.registry import Metric

DEFAULT_EMPTY_POLICY = "diagonal"


@dataclass(frozen=True)
class EmptyPolicy:
    """A rule for pairs in which at least one mask is empty.

    `value(metric, kind, diagonal)` takes the metric, which mask is empty ("both", "prediction" or
    "reference") and the image diagonal in spacing units.
    """

    name: str
    definition: str
    value: Callable[[Metric, EmptyKind, float], float]


def _diagonal(metric: Metric, kind: EmptyKind, diagonal: float) -> float:
    if metric.higher_is_better:
        return 1.0 if kind == "both" else 0.0
    return 0.0 if kind == "both" else diagonal


def _nan(metric: Metric, kind: EmptyKind, diagonal: float) -> float:
    return math.nan if kind == "both" or kind in metric.undefined else 0.0


EMPTY_POLICIES: dict[str, EmptyPolicy] = {
    policy.name: policy
    for policy in (
        EmptyPolicy(
            "diagonal",
            "Both masks empty: a perfect score (overlap and NSD 1, distances 0). One empty: the worst score (overlap "
            "and NSD 0, distances the image diagonal sqrt((H * row spacing)^2 + (W * column spacing)^2), which no "
            "distance between two pixels reaches).",
            _diagonal,
        ),
        EmptyPolicy(
            "nan",
            "NaN wherever the formula divides by zero or has no border to measure to: everything when both masks are "
            "empty; when one is, the distances, precision of an empty prediction and recall of an empty reference. "
            "The rest is 0 by its formula.",
            _nan,
        ),
    )
}


def empty_policy(name: str) -> EmptyPolicy:
    """The policy of that name.

    Raises:
        UserError: unknown name.
    """
    try:
        return EMPTY_POLICIES[name]
    except KeyError:
        raise UserError(
            f"expected an empty-mask policy; found '{name}'.{did_you_mean(str(name), EMPTY_POLICIES)}"
        ) from None
