"""From one row per image to means with error bars, tests between methods, and ranks.

The order of averaging is fixed: an image tested in several folds or with several seeds counts once, by its mean; a
domain's value is the mean over its images; a macro value is the mean over domains.

Two questions are kept apart. Intervals, paired tests and tie groups ask what would change with *more images of these
domains*: images (or subjects) are drawn or flipped within their domain. The critical difference asks whether an order
would hold on *other domains*: its blocks are the domains. The chance of training is in neither: see `seed_spread`.

NaN is never skipped: a mean over anything undefined is undefined.
"""

from harness.statistics.bootstrap import CONFIDENCE, DRAWS, DomainBootstrap, Estimate, lower_quartile
from harness.statistics.equality import TOLERANCE, first_alike, same
from harness.statistics.friedman import CriticalDifference, critical_difference
from harness.statistics.means import macro_mean, mean_per_image, seed_spread
from harness.statistics.paired import PairedTests, holm, paired_tests, sign_flip_p_values
from harness.statistics.ranking import RankDistribution, rank_distribution, rank_ranges, tie_groups

__all__ = [
    "CONFIDENCE",
    "DRAWS",
    "TOLERANCE",
    "CriticalDifference",
    "DomainBootstrap",
    "Estimate",
    "PairedTests",
    "RankDistribution",
    "critical_difference",
    "first_alike",
    "holm",
    "lower_quartile",
    "macro_mean",
    "mean_per_image",
    "paired_tests",
    "rank_distribution",
    "rank_ranges",
    "same",
    "seed_spread",
    "sign_flip_p_values",
    "tie_groups",
]
