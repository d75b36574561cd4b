"""Do 95 % intervals hold the truth in 95 of 100 cases, and do corrected tests err in 5 of 100? By `make statistics`.

Data sets are drawn from distributions whose means are known: Dice values of segmentation are skewed to the left, bounded,
sometimes 0, and images of one subject are alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.statistics import DomainBootstrap, paired_tests, tie_groups

ROUNDS = 1000
FAMILY_ROUNDS = 4000
"""More rounds, so that 5 % can be distinguished from 4.5 %."""
Draw = Callable[[np.random.Generator, int], np.ndarray]

# Mean of each: a / (a + b) of a beta distribution, mixed by hand.
DICE: dict[str, tuple[float, Draw]] = {
    "skewed": (0.75, lambda g, n: g.beta(6, 2, n)),
    "high and skewed": (15 / 17, lambda g, n: g.beta(15, 2, n)),
    "good and bad images": (
        0.7 * 15 / 17 + 0.3 * 0.4,
        lambda g, n: np.where(g.random(n) < 0.3, g.beta(4, 6, n), g.beta(15, 2, n)),
    ),
}


def covered(truth: float, draw: Callable[[np.random.Generator], DomainBootstrap], weights: np.ndarray) -> float:
    """Share of `ROUNDS` data sets whose interval holds the truth."""
    hits = 0
    for round_ in range(ROUNDS):
        estimate = draw(np.random.default_rng([11, round_])).contrast(weights)
        assert estimate.low is not None and estimate.high is not None
        hits += estimate.low <= truth <= estimate.high
    return hits / ROUNDS


def keys(count: int) -> list[str]:
    return [f"{index:04d}" for index in range(count)]


@pytest.mark.simulation
@pytest.mark.parametrize("images", [20, 50, 100])
@pytest.mark.parametrize("kind", DICE)
def test_interval_of_a_domain(kind: str, images: int) -> None:
    truth, draw = DICE[kind]
    found = covered(
        truth,
        lambda g: DomainBootstrap(draw(g, images)[:, None], ["a"] * images, keys(images), draws=1000),
        np.ones((1, 1)),
    )
    print(f"\n{kind}, {images} images: {found:.1%}")
    assert 0.93 <= found <= 0.97


@pytest.mark.simulation
@pytest.mark.parametrize("images", [20, 50, 100])
def test_interval_of_a_macro_mean(images: int) -> None:
    """Three unlike domains; one has half the images of the others."""
    sizes = [images, images, images // 2]
    names = [name for name, size in zip("abc", sizes, strict=True) for _ in range(size)]

    def draw(generator: np.random.Generator) -> DomainBootstrap:
        parts = [one(generator, size) for (_, one), size in zip(DICE.values(), sizes, strict=True)]
        return DomainBootstrap(np.concatenate(parts)[:, None], names, keys(len(names)), draws=1000)

    found = covered(float(np.mean([truth for truth, _ in DICE.values()])), draw, np.full((3, 1), 1 / 3))
    print(f"\nmacro mean, {images} images a domain: {found:.1%}")
    assert 0.93 <= found <= 0.97


@pytest.mark.simulation
@pytest.mark.parametrize("images", [20, 50, 100])
def test_interval_of_a_paired_difference(images: int) -> None:
    """The better method gains 0.02 on the whole, and much on some images."""

    def draw(generator: np.random.Generator) -> DomainBootstrap:
        base = generator.beta(6, 2, images)
        gain = np.where(generator.random(images) < 0.2, 0.06, 0.01) + generator.normal(0, 0.03, images)
        return DomainBootstrap(np.column_stack([base + gain, base]), ["a"] * images, keys(images), draws=1000)

    found = covered(0.02, draw, np.array([[1.0, -1.0]]))
    print(f"\npaired difference, {images} images: {found:.1%}")
    assert 0.93 <= found <= 0.97


@pytest.mark.simulation
@pytest.mark.parametrize("subjects", [20, 50])
def test_interval_with_clustered_images(subjects: int) -> None:
    """One to five images a subject, alike within it."""

    def draw(generator: np.random.Generator) -> DomainBootstrap:
        sizes = generator.integers(1, 6, subjects)
        owner = np.repeat(np.arange(subjects), sizes)
        values = generator.beta(6, 2, subjects)[owner] + generator.normal(0, 0.02, len(owner))
        units = [f"{index:04d}" for index in owner]
        return DomainBootstrap(values[:, None], ["a"] * len(owner), units, draws=1000)

    found = covered(0.75, draw, np.ones((1, 1)))
    print(f"\n{subjects} subjects of 1 to 5 images: {found:.1%}")
    assert 0.93 <= found <= 0.97


def false_findings(noise: Draw, rounds: int, methods: int = 5, images: int = 25) -> dict[str, float]:
    """Share of data sets of equal methods in which a corrected test finds some difference, or a tie group breaks."""
    names = [f"domain{index % 3}" for index in range(3 * images)]
    found = {"permutation": 0, "wilcoxon": 0, "groups": 0}
    for round_ in range(rounds):
        generator = np.random.default_rng([5, round_])
        base = generator.beta(6, 2, (3 * images, 1))
        values = base + noise(generator, 3 * images * methods).reshape(-1, methods)
        tests = paired_tests(values, names, keys(len(names)), seed=round_)
        found["permutation"] += bool((tests.permutation_holm <= 0.05).any())
        found["wilcoxon"] += bool((tests.wilcoxon_holm <= 0.05).any())
        means = tests.difference.mean(1)
        found["groups"] += len(set(tie_groups(means, tests.permutation_holm))) > 1
    return {name: count / rounds for name, count in found.items()}


NOISE: dict[str, Draw] = {
    "normal": lambda g, n: g.normal(0, 0.05, n),
    "heavy tails": lambda g, n: 0.03 * g.standard_t(3, n),
    "rare failures": lambda g, n: np.where(g.random(n) < 0.05, -0.5, 0.0) + g.normal(0, 0.01, n),
}


@pytest.mark.simulation
@pytest.mark.parametrize("kind", NOISE)
def test_family_wise_error(kind: str) -> None:
    found = false_findings(NOISE[kind], FAMILY_ROUNDS)
    print(f"\nfamily-wise error, {kind}: " + ", ".join(f"{name} {share:.1%}" for name, share in found.items()))
    assert max(found.values()) <= 0.05


def test_family_wise_error_in_brief() -> None:
    found = false_findings(NOISE["rare failures"], rounds=40, methods=4, images=12)
    assert max(found.values()) <= 0.125
