"""Which differences between the automatic methods are more than chance, and how sure their ranks are."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from harness.statistics import (
    CriticalDifference,
    RankDistribution,
    critical_difference,
    paired_tests,
    rank_distribution,
    tie_groups,
)
from reports.analysis.means import Means
from reports.analysis.starts import are_mixed


@dataclass(frozen=True)
class Comparison:
    """M complete automatic methods on the same images, best first.

    Attributes:
        pairs: one row per pair, the higher macro Dice first: better, worse, difference with interval, wilcoxon and permutation
            (p after Holm's correction over all pairs), rank_biserial, equal_start.
        groups: rank of each method's group: methods whose difference from the best of their group is not significant share it.
        ranks: how they vary when the images are drawn again; None where a domain has one subject, and nothing would vary.
        over_domains: average ranks over domains; None with fewer than two domains or three methods.
    """

    methods: list[str]
    pairs: pd.DataFrame
    groups: dict[str, int]
    ranks: RankDistribution | None
    over_domains: CriticalDifference | None


def compare_methods(table: pd.DataFrame, means: Means) -> Comparison | None:
    """None where fewer than two automatic methods are complete."""
    names = table.loc[(table["track"] == "automatic") & table["dice"].notna(), "method"].tolist()
    if len(names) < 2 or means.test is None:
        return None
    columns = [means.column(name) for name in names]
    values, domains, units = means.shared_images(columns)
    starts = dict(zip(table["method"], table["start"], strict=True))
    tests = paired_tests(values, domains, units)
    differences = means.test.differences(columns)
    pairs = [
        {
            "better": names[first],
            "worse": names[second],
            "difference": differences[first, second].value,
            "difference_low": differences[first, second].low,
            "difference_high": differences[first, second].high,
            "permutation": float(tests.permutation_holm[first, second]),
            "wilcoxon": float(tests.wilcoxon_holm[first, second]),
            "rank_biserial": float(tests.rank_biserial[first, second]),
            "equal_start": not are_mixed([starts[names[first]], starts[names[second]]]),
        }
        for first in range(len(names))
        for second in range(first + 1, len(names))
    ]
    macro = table.set_index("method").loc[names, "dice"].to_numpy(float)
    by_domain = means.test.means[:, columns]
    return Comparison(
        names,
        pd.DataFrame(pairs),
        dict(zip(names, tie_groups(macro, tests.permutation_holm), strict=True)),
        rank_distribution(means.test, columns) if means.test.varies else None,
        critical_difference(by_domain) if len(by_domain) > 1 and len(names) > 2 else None,
    )
