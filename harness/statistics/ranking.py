"""Ranks that say what the data leave open: ranges, distributions, groups of ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from harness.statistics.bootstrap import CONFIDENCE, DomainBootstrap, FloatArray
from harness.statistics.equality import TOLERANCE

LEVEL = 0.05
"""Adjusted p-values up to this one count as a difference."""


def rank_ranges(
    bootstrap: DomainBootstrap,
    columns: Sequence[int],
    *,
    higher_is_better: bool = True,
    domains: Sequence[str] | None = None,
) -> list[tuple[int, int]]:
    """Best and worst rank that the data leave open for each column, among `columns`, by the macro mean over `domains`.

    A method is behind another only where the paired interval of their difference excludes 0; (1, 3) means that nobody is
    surely better and all but the methods from rank 4 on may be equal. Not corrected for the number of comparisons.
    """
    ahead = [0] * len(columns)
    behind = [0] * len(columns)
    for (first, second), difference in bootstrap.differences(columns, domains).items():
        if difference.excludes_zero():
            winner, loser = (first, second) if (difference.value > 0) == higher_is_better else (second, first)
            ahead[loser] += 1
            behind[winner] += 1
    return [(1 + a, len(columns) - b) for a, b in zip(ahead, behind, strict=True)]


@dataclass(frozen=True)
class RankDistribution:
    """How ranks vary when the images are drawn again.

    Attributes:
        probabilities: (methods, ranks): share of the resamples in which the method has rank 1, 2, ... Methods that are
            equal in a resample share its ranks' probability.
        expected: (methods,) mean rank.
        low, high: (methods,) the ranks that hold the middle 95 % of the resamples.
    """

    probabilities: FloatArray
    expected: FloatArray
    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]

    @property
    def first(self) -> FloatArray:
        """(methods,) how often each is first."""
        return self.probabilities[:, 0]


def rank_distribution(
    bootstrap: DomainBootstrap,
    columns: Sequence[int],
    *,
    higher_is_better: bool = True,
    domains: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
) -> RankDistribution:
    """Ranks of `columns` by their macro mean over `domains` (default: all) in every resample.

    Raises:
        ValueError: a macro mean is undefined, so that nothing can be ranked.
    """
    _, replicates = bootstrap.macro(columns, domains)
    if not np.isfinite(replicates).all():
        raise ValueError("Expected defined means for all columns; rank the complete methods only.")
    # Means of equal resamples may differ by rounding; they share a rank.
    values = np.round((-replicates if higher_is_better else replicates) / TOLERANCE)
    best = stats.rankdata(values, method="min", axis=1).astype(int)
    worst = stats.rankdata(values, method="max", axis=1).astype(int)
    number = len(columns)
    probabilities = np.zeros((number, number))
    for rank in range(1, number + 1):
        shares = np.where((best <= rank) & (rank <= worst), 1.0 / (worst - best + 1), 0.0)
        probabilities[:, rank - 1] = shares.mean(0)
    reached = np.cumsum(probabilities, axis=1)
    tail = (1 - confidence) / 2
    return RankDistribution(
        probabilities,
        probabilities @ np.arange(1, number + 1),
        # The share of a rank is summed from thirds and the like: dust must not move an end.
        (reached > tail + 1e-9).argmax(1) + 1,
        (reached >= 1 - tail - 1e-9).argmax(1) + 1,
    )


def tie_groups(
    means: Sequence[float] | FloatArray,
    adjusted: FloatArray,
    *,
    higher_is_better: bool = True,
    level: float = LEVEL,
) -> list[int]:
    """A rank for each method, the same for all that the tests don't tell from the best of their group.

    The best method and everyone whose difference from it is not significant share rank 1; the best of the others opens
    the next group, whose rank counts all before it: 1, 1, 3. Two members of one group may differ significantly from each
    other, but nobody stands behind a group's best without a test that says so.

    Args:
        means: (methods,) macro means, defined.
        adjusted: (methods, methods) p-values of the paired differences, corrected for their number.
    """
    values = np.asarray(means, float) * (1 if higher_is_better else -1)
    left = [int(index) for index in np.argsort(-values, kind="stable")]
    ranks = [0] * len(values)
    done = 0
    while left:
        group = [index for index in left if index == left[0] or adjusted[left[0], index] > level]
        for index in group:
            ranks[index] = done + 1
        done += len(group)
        left = [index for index in left if index not in group]
    return ranks
