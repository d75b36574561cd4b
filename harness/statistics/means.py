"""Means in their fixed order: folds and seeds, images, domains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


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
