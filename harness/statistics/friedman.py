"""Average ranks over domains and the difference that chance explains: what a critical-difference diagram shows.

J. Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006. Blocks must be independent, so
they are domains, never images: images of one domain share its hospital and device. The answer is about domains at large,
and with few domains the test has little power.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from harness.statistics.bootstrap import FloatArray
from harness.statistics.equality import TOLERANCE


@dataclass(frozen=True)
class CriticalDifference:
    """Attributes:
    average_ranks: (methods,) mean rank over blocks, 1 is best; equal values share their ranks.
    difference: average ranks closer than this do not differ significantly (Nemenyi, at `level`).
    friedman: Friedman's chi-square with the correction for ties.
    p_value: of "all methods are equal", by Iman and Davenport's F.
    blocks: number of domains.
    cliques: places of the methods that one bar of the diagram joins, each best first; only bars that hold two or more
        and lie in no longer bar.
    """

    average_ranks: FloatArray
    difference: float
    friedman: float
    p_value: float
    blocks: int
    level: float
    cliques: tuple[tuple[int, ...], ...]


def critical_difference(
    scores: npt.ArrayLike, *, higher_is_better: bool = True, level: float = 0.05
) -> CriticalDifference:
    """Friedman's test and Nemenyi's critical difference.

    Args:
        scores: (blocks, methods) mean of each domain, all defined.

    Raises:
        ValueError: fewer than 2 blocks or 3 methods, or an undefined score.
    """
    # Scores that differ by rounding share a rank.
    table = np.round(np.asarray(scores, float) / TOLERANCE) * TOLERANCE
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 3 or not np.isfinite(table).all():
        raise ValueError(f"Expected defined scores of 2 or more blocks and 3 or more methods, found {table.shape}.")
    blocks, methods = table.shape
    ranks = stats.rankdata(-table if higher_is_better else table, axis=1)
    average = ranks.mean(0)
    friedman, p_value = _iman_davenport(table)
    quantile = float(stats.studentized_range.ppf(1 - level, methods, np.inf)) / np.sqrt(2)
    difference = float(quantile * np.sqrt(methods * (methods + 1) / (6 * blocks)))
    return CriticalDifference(average, difference, friedman, p_value, blocks, level, _cliques(average, difference))


def _iman_davenport(table: FloatArray) -> tuple[float, float]:
    blocks, methods = table.shape
    if (table == table[:, :1]).all():
        return 0.0, 1.0
    friedman = float(stats.friedmanchisquare(*table.T).statistic)
    left = blocks * (methods - 1) - friedman
    if left <= 1e-9:  # every block ranks the methods alike
        return friedman, 0.0
    statistic = (blocks - 1) * friedman / left
    return friedman, float(stats.f.sf(statistic, methods - 1, (methods - 1) * (blocks - 1)))


def _cliques(average: FloatArray, difference: float) -> tuple[tuple[int, ...], ...]:
    order = [int(index) for index in np.argsort(average, kind="stable")]
    cliques: list[tuple[int, ...]] = []
    reached = 0
    for start, best in enumerate(order):
        end = start + sum(average[index] - average[best] < difference for index in order[start:])
        if end > max(reached, start + 1):
            cliques.append(tuple(order[start:end]))
            reached = end
    return tuple(cliques)
