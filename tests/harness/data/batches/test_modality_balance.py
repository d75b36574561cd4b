"""Batches in which every modality has the same share."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_samples import MODALITIES, invented, make_loader

from harness.data.batches.loader import EpochLoader
from harness.data.batches.order import dealt
from harness.data.batches.pixels import Pixels
from harness.errors import UserError

counts_of_modalities = st.dictionaries(st.sampled_from(MODALITIES), st.integers(1, 30), min_size=1)
BALANCED = {"batching": "modality_balanced", "sampling": "equal"}


@settings(max_examples=200, deadline=None)
@given(counts=counts_of_modalities, batch_size=st.integers(1, 17), epoch=st.integers(0, 5))
def test_each_batch_shows_every_modality_equally_and_each_image_has_its_share(
    counts: dict[str, int], batch_size: int, epoch: int
) -> None:
    loader, samples = make_loader(counts, batch_size, **BALANCED)
    batches = loader.epoch_keys(epoch)
    assert len(batches) == len(loader) == -(-len(samples) // batch_size)
    for batch in batches:
        assert min(2, batch_size) <= len(batch) <= max(2, batch_size)
        shown = Counter(samples[key].modality for key in batch)
        numbers = [shown[name] for name in counts]
        assert max(numbers) - min(numbers) <= 1
    seen = Counter(key for batch in batches for key in batch)
    borrowed = sum(seen.values()) - len(samples)
    assert borrowed == (batch_size > 1 and (len(samples) == 1 or (batch_size == 2 and len(samples) % 2)))
    by_modality = Counter(samples[key].modality for key in seen.elements())
    assert max(by_modality.values()) - min(by_modality[name] for name in counts) <= 1 + borrowed
    for name in counts:
        times = [seen[key] for key in samples if samples[key].modality == name]
        assert max(times) - min(times) <= 1 + borrowed  # none again before all of its modality were taken


@settings(max_examples=100, deadline=None)
@given(numbers=st.integers(1, 40), modalities=st.integers(1, 6), size=st.integers(1, 17))
def test_who_has_one_more_changes_from_batch_to_batch(numbers: int, modalities: int, size: int) -> None:
    """After any number of batches no modality was shown more than once more than another."""
    each, rest = divmod(numbers, modalities)
    images = {f"m{m}": [f"m{m}/{i}" for i in range(each + (m < rest))] for m in range(modalities)}
    order = dealt(images)
    assert Counter(order) == Counter(key for keys in images.values() for key in keys)
    for end in range(size, numbers + 1, size):
        shown = Counter(key.split("/")[0] for key in order[:end])
        assert max(shown.values()) - min(shown[name] for name in images) <= 1


def test_a_modality_of_few_images_is_in_every_batch() -> None:
    loader, samples = make_loader({"xray": 30, "ultrasound": 2}, 4, **BALANCED)
    batches = loader.epoch_keys(0)
    assert all(Counter(samples[key].modality for key in batch) == {"xray": 2, "ultrasound": 2} for batch in batches)


def test_a_function_of_seed_and_epoch_alone() -> None:
    counts = {"xray": 13, "ultrasound": 9}
    one, other = (make_loader(counts, 4, seed=3, **BALANCED)[0] for _ in "ab")
    list(one.epoch(0))  # what was drawn before plays no part
    assert one.epoch_keys(4) == other.epoch_keys(4) != one.epoch_keys(5)
    assert one.epoch_keys(4) != make_loader(counts, 4, seed=4, **BALANCED)[0].epoch_keys(4)


def test_with_unequal_sampling_it_is_refused() -> None:
    cache, samples = invented({"xray": 4, "ultrasound": 2})
    with pytest.raises(UserError, match=r"expected training\.sampling=equal, found proportional"):
        EpochLoader(Pixels(cache, samples), list(samples), MODALITIES, samples, 4, batching="modality_balanced")
