"""Statistics against hand-worked examples, scipy.stats.bootstrap, and properties that must hold for any data."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.statistics import (
    DomainBootstrap,
    Estimate,
    lower_quartile,
    macro_mean,
    mean_per_image,
    rank_distribution,
    rank_ranges,
    seed_spread,
    tie_groups,
)

dice_values = st.floats(0, 1, allow_nan=False, width=32)


def table(rows: list[tuple[str, int, str, str, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["method", "seed", "domain", "id", "dice"])
    frame["modality"] = "fundus"
    frame["subject"] = None
    frame["key"] = "fundus/" + frame["domain"] + "/" + frame["id"]
    return frame


def single(values: list[float] | np.ndarray, **options: object) -> DomainBootstrap:
    column = np.asarray(values, float)[:, None]
    keys = [f"{index:04d}" for index in range(len(column))]
    return DomainBootstrap(column, ["fundus/a"] * len(column), keys, **options)  # type: ignore[arg-type]


def test_an_image_tested_in_several_folds_counts_once() -> None:
    # Image a1 in two folds (0.2, 0.4 -> 0.3), a2 once (0.9): domain a = 0.6. Domain b = 0.2. Macro = 0.4.
    samples = table(
        [("m", 0, "a", "1", 0.2), ("m", 0, "a", "1", 0.4), ("m", 0, "a", "2", 0.9), ("m", 0, "b", "1", 0.2)]
    )
    images = mean_per_image(samples, ["dice"])
    assert images["dice"].tolist() == pytest.approx([0.3, 0.9, 0.2])
    assert images["times"].tolist() == [2, 1, 1]
    assert macro_mean(images["dice"], images["domain"]) == pytest.approx(0.4)


def test_macro_is_over_domains_not_over_images() -> None:
    values = pd.Series([1.0, 1.0, 1.0, 0.0])
    assert macro_mean(values, pd.Series(["a", "a", "a", "b"])) == pytest.approx(0.5)


def test_nan_is_never_skipped() -> None:
    samples = table([("m", 0, "a", "1", 0.2), ("m", 1, "a", "1", math.nan), ("m", 0, "a", "2", 0.9)])
    images = mean_per_image(samples, ["dice"])
    assert math.isnan(images["dice"][0]) and images["dice"][1] == 0.9
    assert math.isnan(macro_mean(images["dice"], images["domain"]))
    estimate = single([0.2, math.nan, 0.4]).contrast(np.ones((1, 1)))
    assert math.isnan(estimate.value) and estimate.low is None and estimate.high is None


def test_macro_mean_of_nothing_is_undefined() -> None:
    assert math.isnan(macro_mean(pd.Series([], dtype=float), pd.Series([], dtype=object)))


def test_seed_spread_by_hand() -> None:
    # Seed 0: (0.2 + 0.6) / 2 = 0.4; seed 1: (0.4 + 0.8) / 2 = 0.6; standard deviation with n - 1: 0.1414.
    rows = [("m", 0, "a", "1", 0.2), ("m", 0, "b", "1", 0.6), ("m", 1, "a", "1", 0.4), ("m", 1, "b", "1", 0.8)]
    assert seed_spread(table(rows), "dice") == pytest.approx(math.sqrt(0.02))
    assert seed_spread(table(rows[:2]), "dice") is None


def test_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).beta(5, 2, size=40)
    ours = single(values, draws=20_000).contrast(np.ones((1, 1)), small_sample=False)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0))
    low, high = theirs.confidence_interval
    assert ours.value == pytest.approx(values.mean())
    tolerance = 0.002  # the noise of 20,000 resamples
    assert ours.low == pytest.approx(low, abs=tolerance)
    assert ours.high == pytest.approx(high, abs=tolerance)


def test_interval_of_a_difference_of_domain_means_agrees_with_scipy() -> None:
    generator = np.random.default_rng(5)
    first, second = generator.beta(6, 2, size=30), generator.beta(2, 3, size=50)
    values = np.concatenate([first, second])[:, None]
    bootstrap = DomainBootstrap(values, ["a"] * 30 + ["b"] * 50, [f"{i:03d}" for i in range(80)], draws=20_000)
    ours = bootstrap.contrast(np.array([[1.0], [-1.0]]), small_sample=False)
    theirs = stats.bootstrap(
        (first, second),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours.low == pytest.approx(theirs[0], abs=0.004)
    assert ours.high == pytest.approx(theirs[1], abs=0.004)


def test_small_samples_get_wider_intervals_that_cover() -> None:
    """Coverage on skewed data with n = 20, where the plain BCa interval is known to fall short."""
    generator = np.random.default_rng(0)
    truth, hits, plain_hits, rounds = 6 / 8, 0, 0, 400
    for _ in range(rounds):
        bootstrap = single(generator.beta(6, 2, size=20), draws=400)
        wide = bootstrap.contrast(np.ones((1, 1)))
        plain = bootstrap.contrast(np.ones((1, 1)), small_sample=False)
        assert wide.low is not None and wide.high is not None and plain.low is not None and plain.high is not None
        assert wide.low <= plain.low and plain.high <= wide.high
        hits += wide.low <= truth <= wide.high
        plain_hits += plain.low <= truth <= plain.high
    assert 0.92 <= hits / rounds <= 0.975
    assert plain_hits < hits


def test_subjects_are_drawn_whole() -> None:
    """Ten copies of each subject's image carry no more information than one."""
    values = np.random.default_rng(1).uniform(size=12)
    alone = single(values, draws=500).contrast(np.ones((1, 1)))
    copies = np.repeat(values, 10)[:, None]
    subjects = np.repeat([f"{index:04d}" for index in range(12)], 10)
    clustered = DomainBootstrap(copies, ["fundus/a"] * 120, subjects.tolist(), draws=500).contrast(np.ones((1, 1)))
    assert clustered.low == pytest.approx(alone.low) and clustered.high == pytest.approx(alone.high)
    unclustered = DomainBootstrap(copies, ["fundus/a"] * 120, [str(i) for i in range(120)]).contrast(np.ones((1, 1)))
    assert unclustered.high - unclustered.low < 0.6 * (clustered.high - clustered.low)  # type: ignore[operator]


def test_difference_of_methods_is_paired_by_image() -> None:
    base = np.random.default_rng(2).uniform(0.1, 0.8, size=30)
    values = np.column_stack([base + 0.02, base])
    bootstrap = DomainBootstrap(values, ["a"] * 30, [str(i) for i in range(30)])
    difference = bootstrap.contrast(bootstrap.weights(0) - bootstrap.weights(1))
    assert difference == Estimate(pytest.approx(0.02), pytest.approx(0.02), pytest.approx(0.02))
    # Unpaired intervals of the two overlap almost wholly, and yet the first is surely better.
    assert rank_ranges(bootstrap, [0, 1]) == [(1, 1), (2, 2)]
    assert rank_ranges(bootstrap, [0, 1], higher_is_better=False) == [(2, 2), (1, 1)]


def test_methods_that_data_can_not_tell_apart_share_ranks() -> None:
    generator = np.random.default_rng(4)
    base = generator.uniform(size=20)
    values = np.column_stack([base, base + generator.normal(0, 0.2, 20), base - 2.0])
    bootstrap = DomainBootstrap(values, ["a"] * 20, [str(i) for i in range(20)])
    assert rank_ranges(bootstrap, [0, 1, 2]) == [(1, 2), (1, 2), (3, 3)]


def test_seen_minus_unseen_on_different_images() -> None:
    """Column 0 has all images, column 1 only some: their difference, resampled within the same pattern."""
    values = np.array([[0.2, 0.8], [0.4, 0.6], [0.6, 0.0], [0.0, 0.0], [0.3, 0.0]])
    present = np.array([[1, 1], [1, 1], [1, 0], [1, 0], [1, 0]], bool)
    bootstrap = DomainBootstrap(values, ["a"] * 5, list("vwxyz"), present=present, stratify=True)
    gap = bootstrap.contrast(bootstrap.weights(1) - bootstrap.weights(0))
    assert gap.value == pytest.approx(0.7 - 0.3)
    assert gap.low is not None and gap.high is not None and gap.low < gap.value < gap.high


def test_no_interval_from_a_single_image() -> None:
    assert single([0.5]).contrast(np.ones((1, 1))) == Estimate(0.5)
    bootstrap = DomainBootstrap(np.array([[0.1], [0.2], [0.3]]), ["a", "a", "b"], list("xyz"))
    estimate = bootstrap.contrast(bootstrap.weights(0))
    assert estimate == Estimate(pytest.approx(0.225))
    assert bootstrap.contrast(bootstrap.weights(0, ["a"])).low is not None


def test_all_equal_values_have_an_interval_of_no_width() -> None:
    assert single([0.7] * 9).contrast(np.ones((1, 1))) == Estimate(
        pytest.approx(0.7), pytest.approx(0.7), pytest.approx(0.7)
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(dice_values, min_size=2, max_size=30), st.lists(dice_values, min_size=2, max_size=30), st.randoms())
def test_properties_of_any_table(first: list[float], second: list[float], shuffler: object) -> None:
    values = np.array(first + second)[:, None]
    domains = ["a"] * len(first) + ["b"] * len(second)
    keys = [f"{index:03d}" for index in range(len(values))]
    bootstrap = DomainBootstrap(values, domains, keys, draws=200)
    estimate = bootstrap.contrast(bootstrap.weights(0))
    assert estimate.value == pytest.approx((np.mean(first) + np.mean(second)) / 2)
    assert estimate.low is not None and estimate.high is not None
    assert values.min() - 1e-9 <= estimate.low <= estimate.high <= values.max() + 1e-9
    # The order of rows does not matter, and neither do other domains.
    order = list(range(len(values)))
    shuffler.shuffle(order)  # type: ignore[attr-defined]
    shuffled = DomainBootstrap(values[order], [domains[i] for i in order], [keys[i] for i in order], draws=200)
    assert shuffled.contrast(shuffled.weights(0)) == Estimate(
        *map(pytest.approx, (estimate.value, estimate.low, estimate.high))
    )
    alone = DomainBootstrap(np.array(first)[:, None], ["a"] * len(first), keys[: len(first)], draws=200)
    assert alone.contrast(alone.weights(0)) == bootstrap.contrast(bootstrap.weights(0, ["a"]))


def noisy_methods(count: int = 4, images: int = 30) -> tuple[np.ndarray, list[str], list[str]]:
    generator = np.random.default_rng(8)
    base = generator.beta(6, 2, size=(images, 1))
    values = base + generator.normal(0, 0.05, (images, count)) - 0.02 * np.arange(count)
    return values, [f"d{index % 3}" for index in range(images)], [f"{index:03d}" for index in range(images)]


def same(first: Estimate, second: Estimate) -> bool:
    return first == Estimate(*map(pytest.approx, (second.value, second.low, second.high)))


def test_many_contrasts_are_what_each_is_alone() -> None:
    values, domains, keys = noisy_methods()
    values[4, 2] = math.nan  # spoils domain d1 of column 2, and nothing else
    bootstrap = DomainBootstrap(values, domains, keys, draws=400)
    differences = bootstrap.differences([0, 2, 3])
    assert list(differences) == [(0, 1), (0, 2), (1, 2)]
    assert same(differences[0, 2], bootstrap.contrast(bootstrap.weights(0) - bootstrap.weights(3)))
    assert math.isnan(differences[0, 1].value) and differences[0, 1].low is None
    here = bootstrap.differences([0, 2], ["d0", "d2"])[0, 1]
    assert same(here, bootstrap.contrast(bootstrap.weights(0, ["d0", "d2"]) - bootstrap.weights(2, ["d0", "d2"])))
    assert here.low is not None and here.low < here.value < here.high  # type: ignore[operator]
    means, replicates = bootstrap.macro([0, 3], ["d0"])
    assert means == pytest.approx(values[::3][:, [0, 3]].mean(0))
    assert replicates.shape == (400, 2)


def test_rank_ranges_of_some_domains() -> None:
    values = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.1], [0.1, 0.9], [0.2, 0.8], [0.1, 0.7]])
    bootstrap = DomainBootstrap(values, list("aaabbb"), list("uvwxyz"))
    assert rank_ranges(bootstrap, [0, 1], domains=["a"]) == [(1, 1), (2, 2)]
    assert rank_ranges(bootstrap, [0, 1], domains=["b"]) == [(2, 2), (1, 1)]
    assert rank_ranges(bootstrap, [0, 1]) == [(1, 2), (1, 2)]


def test_rank_distribution_by_hand() -> None:
    """Column 0 always leads; 1 and 2 are equal on every image and share ranks 2 and 3."""
    base = np.random.default_rng(1).uniform(size=12)
    bootstrap = DomainBootstrap(np.column_stack([base + 1, base, base]), ["a"] * 12, [str(i) for i in range(12)])
    ranks = rank_distribution(bootstrap, [0, 1, 2])
    assert ranks.probabilities == pytest.approx(np.array([[1, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]]))
    assert ranks.expected == pytest.approx([1, 2.5, 2.5])
    assert (ranks.low.tolist(), ranks.high.tolist()) == ([1, 2, 2], [1, 3, 3])
    assert rank_distribution(bootstrap, [0, 1, 2], higher_is_better=False).first == pytest.approx([0, 0.5, 0.5])
    with pytest.raises(ValueError, match="complete methods"):
        rank_distribution(DomainBootstrap([[1.0], [math.nan]], ["a", "a"], ["1", "2"]), [0])


def test_how_often_first_agrees_with_the_normal_theory() -> None:
    generator = np.random.default_rng(3)
    difference = generator.normal(0.1, 1, 200)
    bootstrap = DomainBootstrap(np.column_stack([difference, np.zeros(200)]), ["a"] * 200, [str(i) for i in range(200)])
    expected = stats.norm.cdf(difference.mean() / (difference.std() / math.sqrt(200)))
    assert rank_distribution(bootstrap, [0, 1]).first[0] == pytest.approx(expected, abs=0.03)


def test_tie_groups_share_the_rank_of_their_best() -> None:
    # 0 differs from 2 and 3, 1 from 3 only; 2 and 3 don't differ.
    p = np.ones((4, 4))
    for first, second in ((0, 2), (0, 3), (1, 3)):
        p[first, second] = p[second, first] = 0.01
    assert tie_groups([0.9, 0.8, 0.7, 0.6], p) == [1, 1, 3, 3]
    assert tie_groups([0.6, 0.7, 0.8, 0.9], p[::-1, ::-1]) == [3, 3, 1, 1]
    assert tie_groups([9, 8, 7, 6], p[::-1, ::-1], higher_is_better=False) == [3, 3, 1, 1]
    assert tie_groups([0.9, 0.8, 0.7, 0.6], p, level=0.001) == [1, 1, 1, 1]
    assert tie_groups([], np.ones((0, 0))) == []


def test_lower_quartile_is_numpys_and_its_interval_scipys() -> None:
    values = np.random.default_rng(2).beta(5, 2, 60)
    keys = [f"{index:03d}" for index in range(60)]
    ours = lower_quartile(values, ["a"] * 60, keys, draws=6000)
    theirs = stats.bootstrap(
        (values,), lambda x, axis: np.quantile(x, 0.25, axis=axis), n_resamples=6000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval  # fmt: skip
    assert ours.value == pytest.approx(np.quantile(values, 0.25))
    assert (ours.low, ours.high) == (pytest.approx(theirs[0], abs=0.006), pytest.approx(theirs[1], abs=0.006))
    two = lower_quartile(np.concatenate([values, values + 1]), ["a"] * 60 + ["b"] * 60, keys * 2)
    assert two.value == pytest.approx(np.quantile(values, 0.25) + 0.5)
    # Copies of a subject's image add nothing; a single unit has no interval; NaN is not skipped.
    copies = lower_quartile(np.repeat(values, 3), ["a"] * 180, np.repeat(keys, 3).tolist())
    assert copies.high - copies.low > 0.8 * (ours.high - ours.low)  # type: ignore[operator]
    assert lower_quartile([0.1, 0.2], ["a", "a"], ["s", "s"]) == Estimate(pytest.approx(0.125))
    assert math.isnan(lower_quartile([0.1, math.nan], ["a", "a"], ["s", "t"]).value)
