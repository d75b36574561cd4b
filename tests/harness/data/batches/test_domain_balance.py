"""Batches in which domains can be compared."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_samples import invented, make_loader

from harness.data.batches.domain_balance import PER_DOMAIN, balanced_batches
from harness.data.batches.loader import EpochLoader
from harness.data.batches.pixels import Pixels
from harness.errors import UserError

modalities = st.dictionaries(st.sampled_from(["dermoscopy", "ultrasound", "xray"]), st.integers(1, 40), min_size=1)


@settings(max_examples=100, deadline=None)
@given(counts=modalities, batch_size=st.integers(4, 17), epoch=st.integers(0, 3))
def test_each_modality_of_a_batch_shows_its_domains_equally(
    counts: dict[str, int], batch_size: int, epoch: int
) -> None:
    loader, samples = make_loader(counts, batch_size, batching="domain_balanced")
    batches = loader.epoch_keys(epoch)
    assert len(batches) == len(loader)
    for batch in batches:
        assert len(batch) <= batch_size
        images = Counter(samples[key].domain_key for key in batch)
        for modality in {samples[key].modality for key in batch}:
            own = [count for domain, count in images.items() if domain.startswith(f"{modality}/")]
            domains = len({samples[key].domain for key in samples if samples[key].modality == modality})
            assert all(count % PER_DOMAIN == 0 for count in own)
            # As many domains as there are, or as fit.
            assert len(own) >= min(domains, batch_size // PER_DOMAIN)


@given(counts=modalities, epoch=st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_the_budget_is_that_of_other_batches(counts: dict[str, int], epoch: int) -> None:
    loader, samples = make_loader(counts, 8, batching="domain_balanced")
    seen = Counter(samples[key].modality for batch in loader.epoch_keys(epoch) for key in batch)
    for modality, count in counts.items():
        chunk = PER_DOMAIN * min(3, count)
        assert abs(seen[modality] - count) <= max(chunk / 2, chunk - count)


def test_no_image_comes_again_before_all_of_its_domain_were_taken() -> None:
    random = np.random.default_rng(0)
    domains = {"xray": {"a": [f"a{i}" for i in range(10)], "b": ["b0", "b1"]}}
    seen = Counter(key for batch in balanced_batches(domains, {"xray": 20}, 4, random) for key in batch)
    assert {seen[f"a{i}"] for i in range(10)} == {1}
    assert seen["b0"] == seen["b1"] == 5


def test_more_domains_than_fit_a_batch_take_turns() -> None:
    random = np.random.default_rng(0)
    domains = {"xray": {name: [f"{name}{i}" for i in range(4)] for name in "abcdef"}}
    batches = balanced_batches(domains, {"xray": 24}, 4, random)
    assert {len(batch) for batch in batches} == {4}
    seen = Counter(key[0] for batch in batches for key in batch)
    assert set(seen.values()) == {4}


def test_a_function_of_seed_and_epoch() -> None:
    one, other = (make_loader({"xray": 20, "ultrasound": 9}, 8, batching="domain_balanced", seed=3)[0] for _ in "ab")
    assert one.epoch_keys(4) == other.epoch_keys(4) != one.epoch_keys(5)


def test_a_batch_too_small_for_two_domains_is_refused() -> None:
    cache, samples = invented({"xray": 4})
    with pytest.raises(UserError, match=r"expected training\.batch_size of 4 or more, found 3"):
        EpochLoader(Pixels(cache, samples), list(samples), ["xray"], samples, 3, batching="domain_balanced")
