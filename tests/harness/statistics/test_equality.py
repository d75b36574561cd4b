"""Rounding is no difference: sums in another order, twins and constants share a rank and never differ."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.statistics import (
    TOLERANCE,
    DomainBootstrap,
    Estimate,
    critical_difference,
    first_alike,
    paired_tests,
    rank_distribution,
    rank_ranges,
    same,
    tie_groups,
)

DOMAINS = [f"xray/d{number // 8}" for number in range(24)]
UNITS = [str(number) for number in range(24)]
SEEDS = np.random.default_rng(0).random((24, 4))


def summed(order: tuple[int, ...]) -> np.ndarray:
    total = np.zeros(24)
    for column in order:
        total = total + SEEDS[:, column]
    return total / 4


FIRST = summed((0, 1, 2, 3))
TWINS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "the same column": (FIRST, FIRST.copy()),
    **{f"summed {order}": (FIRST, summed(order)) for order in list(permutations(range(4)))[1:8]},
    "dust of one sign": (FIRST, FIRST + 1e-15),
    "dust of either sign": (FIRST, FIRST + np.where(np.arange(24) % 2, 1e-13, -1e-13)),
    "just within the tolerance": (FIRST, FIRST + 0.9 * TOLERANCE),
    "zeros": (np.zeros(24), np.zeros(24)),
    "ones": (np.ones(24), np.ones(24)),
    "zeros, dust": (np.zeros(24), np.full(24, 1e-17)),
    "a constant": (np.full(24, 0.1 + 0.2), np.full(24, 0.3)),
    "distances in pixels": (FIRST * 1e4, summed((3, 2, 1, 0)) * 1e4),
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("place", [0, 1])
def test_equal_columns_share_everything(name: str, place: int) -> None:
    one, twin = TWINS[name]
    third = one / 2 + 0.1
    table = np.stack([one, twin, third] if place == 0 else [third, twin, one], axis=1)
    pair = (0, 1) if place == 0 else (1, 2)
    bootstrap = DomainBootstrap(table, DOMAINS, UNITS)
    assert bootstrap.alike[pair[0]] == bootstrap.alike[pair[1]]
    assert bootstrap.differences([0, 1, 2])[pair] == Estimate(0.0, 0.0, 0.0)
    for higher in (True, False):
        ranges = rank_ranges(bootstrap, [0, 1, 2], higher_is_better=higher)
        assert ranges[pair[0]] == ranges[pair[1]]
        spread = rank_distribution(bootstrap, [0, 1, 2], higher_is_better=higher)
        np.testing.assert_array_equal(spread.probabilities[pair[0]], spread.probabilities[pair[1]])
    tests = paired_tests(table, DOMAINS, UNITS)
    assert tests.permutation[pair] == tests.wilcoxon[pair] == tests.permutation_holm[pair] == 1.0
    assert tests.difference[pair] == tests.rank_biserial[pair] == 0.0
    groups = tie_groups(table.mean(0), tests.permutation_holm)
    assert groups[pair[0]] == groups[pair[1]]
    found = critical_difference(bootstrap.means)
    assert found.average_ranks[pair[0]] == found.average_ranks[pair[1]]


def test_all_methods_equal() -> None:
    table = np.stack([FIRST, summed((1, 0, 2, 3)), summed((3, 2, 1, 0))], axis=1)
    found = critical_difference(DomainBootstrap(table, DOMAINS, UNITS).means)
    assert (found.friedman, found.p_value) == (0.0, 1.0)
    bootstrap = DomainBootstrap(table, DOMAINS, UNITS)
    assert rank_ranges(bootstrap, [0, 1, 2]) == [(1, 3)] * 3


def test_columns_of_other_images_are_not_equal() -> None:
    present = np.ones((24, 2), bool)
    present[3, 1] = False
    assert first_alike(np.stack([FIRST, FIRST], axis=1), present).tolist() == [0, 1]
    assert first_alike(np.stack([FIRST, FIRST], axis=1)).tolist() == [0, 0]
    holed = np.where(np.arange(24) == 3, np.nan, FIRST)
    assert first_alike(np.stack([holed, holed, FIRST], axis=1)).tolist() == [0, 0, 2]


def test_a_real_difference_is_still_one() -> None:
    """A pixel more in one image of each domain."""
    other = FIRST.copy()
    other[::2] += 1e-6
    assert not same(FIRST, other).all()
    bootstrap = DomainBootstrap(np.stack([FIRST, other], axis=1), DOMAINS, UNITS)
    assert bootstrap.differences([0, 1])[0, 1].excludes_zero()
    assert rank_ranges(bootstrap, [0, 1]) == [(2, 2), (1, 1)]


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6), st.integers(0, 719))
@settings(deadline=None)
def test_the_order_of_a_sum_is_never_a_difference(values: list[float], number: int) -> None:
    order = list(permutations(range(6)))[number]
    one, other = sum(values) / 6, sum(values[index] for index in order) / 6
    assert same(one, other)
