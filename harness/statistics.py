"""From one row per image to means with error bars.

The order of averaging is fixed: an image tested in several folds or with several seeds counts once, by its mean; a
domain's value is the mean over its images; a macro value is the mean over domains. All other numbers of a report
(macro means, differences between methods, the gap from seen to unseen) are linear contrasts of domain means, so one set
of resamples, shared by all methods, gives every interval, and differences between methods are paired by image.

Intervals say how sure a value is for *these* domains: images are drawn again, domains are not.

NaN is never skipped: a mean over anything undefined is undefined.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

DRAWS = 2000
CONFIDENCE = 0.95

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. `low` and `high` are None where the data can't tell (one image, an undefined value)."""

    value: float
    low: float | None = None
    high: float | None = None

    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_per_image(samples: pd.DataFrame, metrics: Sequence[str], by: Sequence[str] = ("method",)) -> pd.DataFrame:
    """One row per group and image: the mean over the folds and seeds in which the image was tested.

    Args:
        samples: rows with `key`, `modality`, `domain`, `subject`, the columns `by` and the columns `metrics`.
        by: what stays apart, for example ("method", "role").

    Returns:
        Columns `by`, key, modality, domain, subject, `metrics`, and `times` (how many rows went into the mean); sorted by
        `by` and key. A metric that is NaN in one of the rows is NaN in the mean.
    """
    groups = samples.groupby([*by, "key"], sort=True, observed=True)
    labels = groups.ngroup().to_numpy()
    firsts = groups[["modality", "domain", "subject"]].first().reset_index()
    times = np.bincount(labels, minlength=len(firsts))
    for metric in metrics:
        # bincount keeps NaN in its own group, where pandas' mean would skip it.
        sums = np.bincount(labels, weights=samples[metric].to_numpy(float), minlength=len(firsts))
        firsts[metric] = sums / times
    firsts["times"] = times
    return firsts


def macro_mean(values: pd.Series, domains: pd.Series) -> float:
    """Mean over images within each domain, then over domains; NaN when any value is NaN or there are none."""
    if values.empty:
        return float("nan")
    codes, _ = pd.factorize(domains, use_na_sentinel=False)
    sums = np.bincount(codes, weights=values.to_numpy(float))
    return float(np.mean(sums / np.bincount(codes)))


def seed_spread(samples: pd.DataFrame, metric: str) -> float | None:
    """Standard deviation (n - 1) over seeds of one method's macro mean; None with fewer than two seeds.

    Args:
        samples: one method's rows with `seed`, `key`, `modality`, `domain`, `subject` and `metric`.
    """
    images = mean_per_image(samples, [metric], by=("seed",))
    names = images["modality"].astype(str) + "/" + images["domain"].astype(str)
    means = [macro_mean(part[metric], names[part.index]) for _, part in images.groupby("seed")]
    return float(np.std(means, ddof=1)) if len(means) > 1 else None


@dataclass(frozen=True)
class _Stratum:
    """Units that are drawn from each other."""

    domain: int
    # (units, columns): the influence of each unit on the columns' domain means.
    influence: FloatArray
    # (columns,): whether the column has any of these units.
    present: npt.NDArray[np.bool_]


class DomainBootstrap:
    """Domain means of several columns (methods, roles) and how they vary when the images are drawn again.

    Units are images or, where subjects are known, subjects with all their images (then a mean is a ratio of sums).
    Every domain is resampled for itself, with a random stream of its own: a domain's interval does not depend on which
    other domains stand beside it, nor on the order of rows.

    Args:
        values: (images, columns) float.
        domains: (images,) name of each image's domain.
        units: (images,) name of the independent unit, for example the subject, or the image's own key.
        present: (images, columns) bool, False where a column does not have the image; default: all present.
        stratify: draw images that have the same `present` pattern only from each other, so that no draw leaves a column
            without images. Needed when columns cover different images.
        draws: number of resamples.
        seed: of the resamples.
    """

    def __init__(
        self,
        values: npt.ArrayLike,
        domains: Sequence[str],
        units: Sequence[str],
        *,
        present: npt.ArrayLike | None = None,
        stratify: bool = False,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> None:
        table = np.asarray(values, float)
        mask = np.ones(table.shape, bool) if present is None else np.asarray(present, bool)
        names = np.asarray(domains, object)
        owners = np.asarray(units, object)
        self.domains = sorted(set(names.tolist()))
        columns = table.shape[1]
        self.means = np.full((len(self.domains), columns), np.nan)
        self.replicates = np.full((draws, len(self.domains), columns), np.nan)
        self._strata: list[_Stratum] = []
        for position, name in enumerate(self.domains):
            rows = names == name
            sums, sizes = _unit_totals(table[rows], mask[rows], owners[rows])
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = sums.sum(0) / sizes.sum(0)
                influence = (sums - mean * sizes) / sizes.sum(0)
            self.means[position] = mean
            generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
            patterns = (
                np.unique(sizes > 0, axis=0, return_inverse=True)[1].ravel() if stratify else np.zeros(len(sums), int)
            )
            total, count = np.zeros((draws, columns)), np.zeros((draws, columns))
            for pattern in np.unique(patterns):
                members = patterns == pattern
                number = int(members.sum())
                drawn = generator.multinomial(number, np.full(number, 1 / number), size=draws).astype(float)
                total += drawn @ sums[members]
                count += drawn @ sizes[members]
                self._strata.append(_Stratum(position, influence[members], (sizes[members] > 0).any(0)))
            with np.errstate(invalid="ignore", divide="ignore"):
                self.replicates[:, position] = total / count

    def weights(self, column: int, domains: Sequence[str] | None = None) -> FloatArray:
        """(domains, columns) weights of a column's macro mean over `domains` (default: all)."""
        chosen = self.domains if domains is None else list(domains)
        weights = np.zeros(self.means.shape)
        for name in chosen:
            weights[self.domains.index(name), column] = 1 / len(chosen)
        return weights

    def contrast(self, weights: FloatArray, *, confidence: float = CONFIDENCE, small_sample: bool = True) -> Estimate:
        """The estimate of sum(weights * domain means), for example a macro mean or the difference of two.

        The interval is BCa (Efron 1987, doi:10.1080/01621459.1987.10478410). `small_sample` widens its nominal quantiles by
        t instead of normal quantiles and sqrt(n / (n - 1)) (Hesterberg 2015, doi:10.1080/00031305.2015.1089789), because
        plain bootstrap intervals of a mean are too short for tens of images.
        """
        used = weights != 0
        value = float((self.means[used] * weights[used]).sum())
        replicates = self.replicates[:, used] @ weights[used]
        parts: list[FloatArray] = [
            part.influence[:, chosen] @ weights[part.domain, chosen]
            for part in self._strata
            if (chosen := used[part.domain] & part.present).any()
        ]
        if (
            not np.isfinite(value)
            or not np.isfinite(replicates).all()
            or any(len(part) < 2 for part in parts)
            or not parts
        ):
            return Estimate(value)
        low, high = _bca_interval(value, replicates, parts, confidence, small_sample)
        return Estimate(value, low, high)


def _unit_totals(
    values: FloatArray, present: npt.NDArray[np.bool_], units: npt.NDArray[np.object_]
) -> tuple[FloatArray, FloatArray]:
    """Sum of values and number of images for each unit (sorted by name) and column: two (units, columns)."""
    names, codes = np.unique(units.astype(str), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    sizes = np.zeros_like(sums)
    np.add.at(sums, codes, np.where(present, values, 0.0))
    np.add.at(sizes, codes, present.astype(float))
    return sums, sizes


def _bca_interval(
    value: float, replicates: FloatArray, parts: list[FloatArray], confidence: float, small_sample: bool
) -> tuple[float, float]:
    squares = np.array([float((part**2).sum()) for part in parts])
    # Rounding leaves dust where all values are equal; dust must not make an acceleration.
    if squares.sum() <= 1e-24 or np.ptp(replicates) <= 1e-12:
        return value, value
    acceleration = sum(float((part**3).sum()) for part in parts) / (6 * squares.sum() ** 1.5)
    below = (np.sum(replicates < value) + np.sum(replicates <= value)) / (2 * len(replicates))
    bias = float(stats.norm.ppf(below)) if 0 < below < 1 else 0.0
    quantile = float(stats.norm.ppf((1 + confidence) / 2))
    if small_sample:
        sizes = np.array([len(part) for part in parts])
        variances = squares * sizes / (sizes - 1)
        # Welch-Satterthwaite: the degrees of freedom of a sum of variances.
        freedom = variances.sum() ** 2 / (variances**2 / (sizes - 1)).sum()
        quantile = float(stats.t.ppf((1 + confidence) / 2, freedom)) * np.sqrt(variances.sum() / squares.sum())
    levels = []
    for shift in (bias - quantile, bias + quantile):
        damping = 1 - acceleration * shift
        levels.append(float(stats.norm.cdf(bias + shift / damping)) if damping > 0 else float(shift > 0))
    low, high = np.quantile(replicates, levels)
    return float(low), float(high)


def rank_ranges(
    bootstrap: DomainBootstrap, columns: Sequence[int], *, higher_is_better: bool = True
) -> list[tuple[int, int]]:
    """Best and worst rank that the data leave open for each column, among `columns`, by the macro mean over all domains.

    A method is behind another only where the paired interval of their difference excludes 0; (1, 3) means that nobody is
    surely better and all but the methods from rank 4 on may be equal. Not corrected for the number of comparisons.
    """
    ahead = dict.fromkeys(columns, 0)
    behind = dict.fromkeys(columns, 0)
    for index, first in enumerate(columns):
        for second in columns[index + 1 :]:
            difference = bootstrap.contrast(bootstrap.weights(first) - bootstrap.weights(second))
            if not difference.excludes_zero():
                continue
            winner, loser = (first, second) if (difference.value > 0) == higher_is_better else (second, first)
            ahead[loser] += 1
            behind[winner] += 1
    return [(1 + ahead[column], len(columns) - behind[column]) for column in columns]
