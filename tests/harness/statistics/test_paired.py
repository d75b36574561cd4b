"""Paired tests and average ranks against R, Demsar's article, SciPy and enumeration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.statistics import critical_difference, holm, paired_tests, sign_flip_p_values

# Hollander and Wolfe's depression scores, the example of R's ?wilcox.test (V = 40, two-sided p-value = 0.03906).
FIRST = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
SECOND = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
# AUC of four classifiers on 14 data sets: Demsar, JMLR 7, 2006, table 6.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967], [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931], [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875], [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.978, 0.975], [0.957, 0.978, 0.946, 0.970],
    ]
)  # fmt: skip


def names(count: int) -> list[str]:
    return [f"{index:04d}" for index in range(count)]


def test_wilcoxon_as_in_r() -> None:
    tests = paired_tests(np.column_stack([FIRST, SECOND]), ["a"] * 9, names(9))
    assert tests.wilcoxon[0, 1] == tests.wilcoxon[1, 0] == pytest.approx(0.0390625)
    # V = 40 of 45: (40 - 5) / 45.
    assert tests.rank_biserial[0, 1] == pytest.approx(35 / 45)
    assert tests.rank_biserial[1, 0] == pytest.approx(-35 / 45)


def test_permutation_is_scipys_exact_one() -> None:
    difference = np.subtract(FIRST, SECOND)
    exact = stats.permutation_test((difference,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    tests = paired_tests(np.column_stack([FIRST, SECOND]), ["a"] * 9, names(9))
    assert tests.permutation[0, 1] == pytest.approx(exact)
    assert tests.difference[0, 1] == pytest.approx(difference.mean())


@pytest.mark.parametrize("shift", [0.3, 0.8, 1.2])
def test_random_flips_and_the_far_tail_agree_with_enumeration(shift: float) -> None:
    difference = np.random.default_rng(0).gamma(2, 1, 16) - 2 + shift
    exact = stats.permutation_test((difference,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    (ours,) = sign_flip_p_values(difference[:, None])
    # Noise of 9,999 flips; beyond them the saddlepoint's few per cent.
    assert ours == pytest.approx(exact, rel=0.35, abs=0.015)
    if exact < 1e-3:
        assert ours < 2e-3


@pytest.mark.parametrize("negative", [(1, 2, 3), (5, 17, 30), (40,)])
def test_the_far_tail_agrees_with_the_exact_signed_rank_distribution(negative: tuple[int, ...]) -> None:
    """p-values of 1e-6 and less, which 9,999 flips can't count, of 40 ranks without ties."""
    ranks = np.array([-rank if rank in negative else rank for rank in range(1, 41)], float)
    exact = stats.wilcoxon(ranks, method="exact").pvalue
    assert exact < 1e-5
    assert sign_flip_p_values(ranks[:, None])[0] == pytest.approx(exact, rel=0.25)


def test_nothing_is_rarer_than_all_signs_alike() -> None:
    assert sign_flip_p_values(np.ones((30, 1)))[0] == pytest.approx(2.0**-29)


def test_large_samples_agree_with_scipys_wilcoxon() -> None:
    difference = np.random.default_rng(4).normal(0.12, 1, 150)
    tests = paired_tests(np.column_stack([difference, np.zeros(150)]), ["a"] * 150, names(150))
    assert tests.wilcoxon[0, 1] == pytest.approx(stats.wilcoxon(difference, method="approx").pvalue, abs=0.01)


def test_domains_weigh_alike_and_images_stay_in_theirs() -> None:
    """100 images of one domain gain 0.01 each, 4 of the other lose 0.4: the macro mean loses, and no image can tell for sure."""
    difference = np.array([0.01] * 100 + [-0.4] * 4)
    domains = ["a"] * 100 + ["b"] * 4
    tests = paired_tests(np.column_stack([difference, np.zeros(104)]), domains, names(104))
    assert tests.difference[0, 1] == pytest.approx((0.01 - 0.4) / 2)
    # All 4 of b must have the same sign to be as large: 2 of 16 flips.
    assert tests.permutation[0, 1] == pytest.approx(2 / 16, abs=0.01)
    apart = paired_tests(np.column_stack([difference[:100], np.zeros(100)]), domains[:100], names(100))
    assert apart.permutation[0, 1] < 1e-20


def test_subjects_are_flipped_whole() -> None:
    difference = np.subtract(FIRST, SECOND)
    alone = paired_tests(np.column_stack([FIRST, SECOND]), ["a"] * 9, names(9))
    copies = np.repeat(difference, 5)
    values = np.column_stack([copies, np.zeros(45)])
    clustered = paired_tests(values, ["a"] * 45, np.repeat(names(9), 5).tolist())
    assert clustered.permutation[0, 1] == pytest.approx(alone.permutation[0, 1])
    assert clustered.wilcoxon[0, 1] == pytest.approx(alone.wilcoxon[0, 1])
    assert paired_tests(values, ["a"] * 45, names(45)).permutation[0, 1] < 1e-3


def test_equal_methods_and_undefined_values() -> None:
    base = np.random.default_rng(0).uniform(size=20)
    # 0.1 + 0.2 - 0.3 is dust, not a difference.
    tests = paired_tests(np.column_stack([base, base + 0.1 - 0.1, base]), ["a"] * 20, names(20))
    assert (tests.permutation == 1).all() and (tests.wilcoxon_holm == 1).all() and (tests.rank_biserial == 0).all()
    with pytest.raises(ValueError, match="complete methods"):
        paired_tests([[0.1, np.nan]], ["a"], ["1"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 1, allow_nan=False, width=16), min_size=2, max_size=20), st.integers(0, 5))
def test_properties_of_any_differences(values: list[float], seed: int) -> None:
    table = np.column_stack([values, np.zeros(len(values)), -np.array(values)])
    domains = ["a" if index % 2 else "b" for index in range(len(values))]
    tests = paired_tests(table, domains, names(len(values)), seed=seed)
    for p in (tests.permutation, tests.wilcoxon, tests.permutation_holm, tests.wilcoxon_holm):
        assert ((p > 0) & (p <= 1)).all() and np.array_equal(p, p.T)
    assert (tests.permutation_holm >= tests.permutation).all()
    assert np.array_equal(tests.rank_biserial, -tests.rank_biserial.T) and np.abs(tests.rank_biserial).max() <= 1
    order = np.random.default_rng(seed).permutation(len(values))
    again = paired_tests(table[order], [domains[i] for i in order], [names(len(values))[i] for i in order], seed=seed)
    assert again.permutation == pytest.approx(tests.permutation)


def test_holm_as_rs_p_adjust() -> None:
    # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([]).shape == (0,)


def test_demsars_example() -> None:
    found = critical_difference(DEMSAR)
    assert found.average_ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=0.001)
    assert found.difference == pytest.approx(1.25, abs=0.005)
    assert critical_difference(DEMSAR, level=0.10).difference == pytest.approx(1.12, abs=0.005)
    # Demsar's chi-square is not corrected for ties: 9.28. His article tells C4.5 from the two best at 0.10, not at 0.05.
    plain = 12 * 14 / (4 * 5) * ((found.average_ranks**2).sum() - 4 * 5**2 / 4)
    assert plain == pytest.approx(9.28, abs=0.01) and found.friedman > plain
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*DEMSAR.T).statistic)
    assert found.p_value < 0.05
    assert found.cliques == ((3, 1, 2, 0),)
    assert critical_difference(DEMSAR, level=0.10).cliques == ((3, 1, 2), (2, 0))
    assert critical_difference(-DEMSAR, higher_is_better=False).average_ranks == pytest.approx(found.average_ranks)


@pytest.mark.parametrize(
    ("methods", "quantile"),
    [(3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_nemenyis_critical_values_as_in_demsars_table_5(methods: int, quantile: float) -> None:
    scores = np.random.default_rng(0).uniform(size=(12, methods))
    expected = quantile * np.sqrt(methods * (methods + 1) / (6 * 12))
    assert critical_difference(scores).difference == pytest.approx(expected, rel=5e-4)


def test_critical_difference_at_its_ends() -> None:
    alike = critical_difference(np.tile([[3.0, 2.0, 1.0]], (30, 1)))
    assert alike.p_value == 0 and alike.cliques == ()
    equal = critical_difference(np.ones((5, 3)))
    assert (equal.p_value, equal.cliques) == (1.0, ((0, 1, 2),))
    for scores in ([[1.0, 2.0]], np.ones((5, 2)), [[1.0, 2.0, np.nan]] * 3):
        with pytest.raises(ValueError, match="Expected defined scores"):
            critical_difference(scores)
