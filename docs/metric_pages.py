"""What the documentation says of each metric: from its own entry in the registry, and from values computed on the spot."""

from __future__ import annotations

import math

import numpy as np

from harness.metrics import EMPTY_POLICIES, REGISTRY, Metric, evaluate_pair
from harness.metrics.inputs import Mask

_SIDE = 20


def example_pairs() -> dict[str, tuple[Mask, Mask]]:
    """Edge cases as (prediction, reference) of 20 x 20 pixels, whose diagonal is 28.3 pixels."""
    none = np.zeros((_SIDE, _SIDE), bool)
    pixel, neighbour, disc, island = none.copy(), none.copy(), none.copy(), none.copy()
    pixel[5, 5] = neighbour[5, 6] = True
    disc[6:14, 6:14] = True
    island[6:14, 6:14] = island[0, 0] = True
    return {
        "both empty": (none, none),
        "prediction empty": (none, disc),
        "reference empty": (disc, none),
        "the same pixel": (pixel, pixel),
        "one pixel beside the other": (neighbour, pixel),
        "one pixel of an 8 × 8 square": (_inside(none), disc),
        "that square and one far pixel": (island, disc),
    }


def _inside(none: Mask) -> Mask:
    mask = none.copy()
    mask[10, 10] = True
    return mask


def one_metric(name: str) -> str:
    """The section of one metric below its heading: definition, facts, edge cases.

    Raises:
        KeyError: there is no metric of that name.
    """
    metric = REGISTRY[name]
    cases = "\n".join(_case(metric, what, *pair) for what, pair in example_pairs().items())
    shown = "yes" if metric.shown else "no; it is in the exports"
    return f"""{metric.definition.replace("<", "&lt;")}

| | |
|---|---|
| key | `{metric.name}` |
| unit | {metric.unit or "none, 0 to 1"} |
| better | {"higher" if metric.higher_is_better else "lower"} |
| version | {metric.version} |
| decimals in tables | {metric.digits} |
| in the report | {shown} |
| undefined by its formula | {_undefined(metric)} |
| reference | {metric.reference} |

| masks of {_SIDE} × {_SIDE} pixels | `empty=diagonal` (default) | `empty=nan` |
|---|---|---|
{cases}"""


def _undefined(metric: Metric) -> str:
    kinds = ["both masks empty", *(f"{kind} empty" for kind in ("prediction", "reference") if kind in metric.undefined)]
    return ", ".join(kinds)


def _case(metric: Metric, what: str, prediction: Mask, reference: Mask) -> str:
    values = [
        evaluate_pair(prediction, reference, empty=rule, metrics=[metric.name])[metric.name]
        for rule in ("diagonal", "nan")
    ]
    shown = ["NaN" if math.isnan(value) else f"{value:.{metric.digits}f}" for value in values]
    return f"| {what} | {shown[0]} | {shown[1]} |"


def metric_table() -> str:
    """All metrics in one table."""
    lines = ["| metric | unit | better | in the report |", "|---|---|---|---|"]
    for metric in REGISTRY.values():
        better = "higher" if metric.higher_is_better else "lower"
        lines.append(
            f"| [{metric.title}](#{metric.name}) | {metric.unit} | {better} | {'yes' if metric.shown else 'no'} |"
        )
    return "\n".join(lines)


def empty_policies() -> str:
    """The rules for masks without foreground."""
    return "\n".join(f"- `metrics.empty={policy.name}`: {policy.definition}" for policy in EMPTY_POLICIES.values())
