"""Are two methods different on the same images? Paired tests within domains, corrected for their number.

Both tests flip signs. If two methods are equal, their difference on an image could as well have had the other sign;
how large the statistic becomes over all such flips is its distribution, whatever that of the metric. Images of one
subject are flipped together, and no image is ever held against one of another domain.

- The permutation test (Fisher 1935) asks about what the table shows: the difference of macro means.
- Wilcoxon's signed-rank test (1945) asks about typical images: ranks of |difference| within each domain, each domain
  weighted by 1 / (n + 1) as van Elteren (1960) does; images without a difference are left out. With one domain it is the
  familiar test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from harness.statistics.bootstrap import FloatArray, unit_totals
from harness.statistics.equality import TOLERANCE, first_alike, settled

FLIPS = 9_999
_EXACT_UNITS = 13
_FEW = 10
_PAIRS_AT_ONCE = 512


@dataclass(frozen=True)
class PairedTests:
    """All pairs of methods. Each array is (methods, methods): row against column.

    Attributes:
        difference: macro mean of the row minus that of the column.
        permutation, wilcoxon: two-sided p-values.
        permutation_holm, wilcoxon_holm: the same, corrected for all pairs by Holm's method.
        rank_biserial: effect size of the signed ranks, 1: the row is higher on every image, -1: on none (Kerby 2014,
            doi:10.2466/11.IT.3.1).
    """

    difference: FloatArray
    permutation: FloatArray
    wilcoxon: FloatArray
    permutation_holm: FloatArray
    wilcoxon_holm: FloatArray
    rank_biserial: FloatArray


def paired_tests(values: npt.ArrayLike, domains: Sequence[str], units: Sequence[str], *, seed: int = 0) -> PairedTests:
    """Compares every method with every other on the same images.

    Args:
        values: (images, methods) float, all defined.
        domains: (images,) name of each image's domain.
        units: (images,) name of the independent unit, for example the subject, or the image's own key.
        seed: of the random flips.

    Raises:
        ValueError: an undefined value. A comparison on part of the images is another comparison.
    """
    table = np.asarray(values, float)
    if not np.isfinite(table).all():
        raise ValueError("Expected a value for every image and method; compare complete methods only.")
    table = table[:, first_alike(table)]
    names, owners = np.asarray(domains, object), np.asarray(units, object)
    kinds = sorted(set(names.tolist()))
    shares, means, strata = [], [], []
    for position, name in enumerate(kinds):
        rows = names == name
        sums, sizes = unit_totals(table[rows], np.ones_like(table[rows], bool), owners[rows])
        # What each unit adds to the macro mean, and its own mean.
        shares.append(sums / (rows.sum() * len(kinds)))
        means.append(sums / sizes)
        strata.append(np.full(len(sums), position))
    share, mean, stratum = np.concatenate(shares), np.concatenate(means), np.concatenate(strata)
    methods = table.shape[1]
    first, second = np.triu_indices(methods, 1)
    permutation, wilcoxon, effect = (np.zeros(len(first)) for _ in range(3))
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        a, b = first[part], second[part]
        steps = np.where(settled(mean[:, a] - mean[:, b]) == 0, 0.0, share[:, a] - share[:, b])
        permutation[part] = sign_flip_p_values(steps, seed=seed)
        ranks = _signed_ranks(settled(mean[:, a] - mean[:, b]), stratum)
        wilcoxon[part] = sign_flip_p_values(ranks, seed=seed)
        total = np.abs(ranks).sum(0)
        effect[part] = np.divide(ranks.sum(0), total, out=np.zeros(len(a)), where=total > 0)
    macro = share.sum(0)
    return PairedTests(
        difference=settled(macro[:, None] - macro),
        permutation=_square(permutation, methods, 1.0),
        wilcoxon=_square(wilcoxon, methods, 1.0),
        permutation_holm=_square(holm(permutation), methods, 1.0),
        wilcoxon_holm=_square(holm(wilcoxon), methods, 1.0),
        rank_biserial=_square(effect, methods, 0.0, mirrored=-1.0),
    )


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """p-values adjusted so that one false finding among all of them is as unlikely as `level` (Holm 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def sign_flip_p_values(coefficients: npt.ArrayLike, *, seed: int = 0) -> FloatArray:
    """Two-sided p-values of sums under random signs: how often |sum of +-c| is as large as |sum of c|.

    Exact by all 2^n flips for up to 13 coefficients other than 0; else by 9,999 random ones, counted with the one at hand.
    Where fewer than ten of them reach the sum, the count is too coarse to be corrected for many comparisons: then by the
    saddlepoint approximation (Lugannani and Rice 1980; for sign flips Robinson 1982, doi:10.1111/j.2517-6161.1982.tb01191.x).

    Args:
        coefficients: (units, tests) float.
    """
    table = np.asarray(coefficients, float)
    scale = np.sqrt((table**2).sum(0))
    # Differences that are rounding only are none.
    table = np.where(np.abs(table) > 1e-12, table, 0.0) / np.where(scale > 0, scale, 1.0)
    counts = (table != 0).sum(0)
    p = np.ones(table.shape[1])
    for test in np.flatnonzero((counts > 0) & (counts <= _EXACT_UNITS)):
        p[test] = _exact(table[table[:, test] != 0, test])
    many = np.flatnonzero(counts > _EXACT_UNITS)
    if len(many):
        p[many] = _by_random_flips(table[:, many], seed)
    return p


def _exact(coefficients: FloatArray) -> float:
    sums = np.zeros(1)
    for value in coefficients[1:]:  # a flip of all signs gives the same |sum|
        sums = np.concatenate([sums + value, sums - value])
    sums += coefficients[0]
    return float(np.mean(np.abs(sums) >= abs(coefficients.sum()) - 1e-9))


def _by_random_flips(table: FloatArray, seed: int) -> FloatArray:
    generator = np.random.default_rng(seed)
    observed = np.abs(table.sum(0))
    reached = np.zeros(table.shape[1], int)
    block = 2_000
    for start in range(0, FLIPS, block):
        number = min(block, FLIPS - start)
        signs = generator.integers(0, 2, (number, len(table)), dtype=np.int8) * 2.0 - 1.0
        reached += (np.abs(signs @ table) >= observed - 1e-9).sum(0)
    p = (reached + 1) / (FLIPS + 1)
    rare = reached < _FEW
    if rare.any():
        p[rare] = _saddlepoint(table[:, rare], observed[rare])
    return p


def _saddlepoint(table: FloatArray, observed: FloatArray) -> FloatArray:
    """2 P(sum of +-c >= observed) for columns c of unit length and observed > 0, far in the tail."""
    smallest = 2.0 ** (1 - (table != 0).sum(0))
    inner = observed < np.abs(table).sum(0) * (1 - 1e-9)
    s = observed.copy()
    # K'(s) = observed, where K(s) = sum(log cosh(s c)). K' is concave: Newton's steps come from the left and stay there.
    for _ in range(60):
        tangent = np.tanh(s * table)
        slope = (table**2 * (1 - tangent**2)).sum(0)
        step = np.where(inner, (observed - (table * tangent).sum(0)) / np.maximum(slope, 1e-12), 0.0)
        s += np.clip(step, 0.0, s)  # at most doubled
        if (np.abs(step) < 1e-10 * s).all():
            break
    size = np.abs(s * table)
    generating = (size + np.log1p(np.exp(-2 * size)) - np.log(2)).sum(0)
    root = np.sqrt(np.maximum(2 * (s * observed - generating), 1e-12))
    slope = (table**2 / np.cosh(np.minimum(size, 300.0)) ** 2).sum(0)
    with np.errstate(divide="ignore", over="ignore"):
        tail = special.ndtr(-root) + np.exp(-(root**2) / 2) / np.sqrt(2 * np.pi) * (
            1 / np.maximum(s * np.sqrt(slope), 1e-300) - 1 / root
        )
    return np.asarray(np.where(inner, np.clip(2 * tail, smallest, 1.0), smallest))


def _signed_ranks(differences: FloatArray, stratum: npt.NDArray[np.int64]) -> FloatArray:
    """(units, pairs): sign times the rank of |difference| within the stratum, over n + 1; 0 where there is no difference."""
    ranks = np.zeros_like(differences)
    for position in np.unique(stratum):
        part = differences[stratum == position]
        # Differences of one size differ by rounding at most; such dust must not make ranks.
        size = np.round(np.abs(part) / TOLERANCE)
        zeros = (size == 0).sum(0)
        number = len(part) - zeros
        ranks[stratum == position] = (
            np.sign(part) * np.where(size > 0, stats.rankdata(size, axis=0) - zeros, 0.0) / (number + 1)
        )
    return ranks


def _square(pairs: FloatArray, methods: int, diagonal: float, mirrored: float = 1.0) -> FloatArray:
    """(methods, methods) from the values of the pairs above its diagonal."""
    matrix = np.full((methods, methods), diagonal)
    upper = np.triu_indices(methods, 1)
    matrix[upper] = pairs
    matrix.T[upper] = mirrored * pairs
    return matrix
