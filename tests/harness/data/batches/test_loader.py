"""Batches: every image its fair share, the same for the same seed and epoch, and never one alone."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_samples import MODALITIES, invented, make_loader

from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.loader import Batch, EpochLoader, evaluation_batches
from harness.data.batches.pixels import Pixels
from harness.data.dataset import Dataset
from harness.errors import UserError

counts_of_modalities = st.dictionaries(st.sampled_from(MODALITIES), st.integers(1, 23), min_size=1)
batch_sizes = st.integers(1, 9)


class TestProportional:
    @settings(max_examples=100, deadline=None)
    @given(counts=counts_of_modalities, batch_size=batch_sizes, batching=st.sampled_from(["mixed", "single_modality"]))
    def test_every_image_once(self, counts: dict[str, int], batch_size: int, batching: str) -> None:
        loader, samples = make_loader(counts, batch_size, batching=batching)
        batches = loader.epoch_keys(3)
        seen = Counter(key for batch in batches for key in batch)
        assert set(seen) == set(samples)
        groups = 1 if batching == "mixed" else len(counts)
        borrowed = sum(seen.values()) - len(samples)
        assert 0 <= borrowed <= groups  # one a list, for the batch that would have held a single image
        if batch_size != 2 and min(counts.values()) > 1:
            assert borrowed == 0

    @settings(max_examples=100, deadline=None)
    @given(
        counts=counts_of_modalities,
        batch_size=batch_sizes,
        batching=st.sampled_from(["mixed", "single_modality"]),
        sampling=st.sampled_from(["proportional", "equal"]),
        epoch=st.integers(0, 5),
    )
    def test_sizes(self, counts: dict[str, int], batch_size: int, batching: str, sampling: str, epoch: int) -> None:
        loader, _ = make_loader(counts, batch_size, batching=batching, sampling=sampling)
        batches = loader.epoch_keys(epoch)
        sizes = [len(batch) for batch in batches]
        assert len(sizes) == len(loader)
        assert max(sizes) <= batch_size
        assert batch_size == 1 or min(sizes) >= 2
        if batching == "mixed":
            assert max(sizes) - min(sizes) <= 1
        else:
            assert all(len({key.split("/")[0] for key in batch}) == 1 for batch in batches)

    def test_a_lonely_last_image_is_not_lost_nor_alone(self) -> None:
        loader, _ = make_loader({"xray": 17}, 16)
        assert sorted(len(batch) for batch in loader.epoch_keys(0)) == [8, 9]

    def test_a_single_image_is_doubled(self) -> None:
        loader, samples = make_loader({"xray": 1}, 16)
        assert loader.epoch_keys(0) == [list(samples) * 2]


class TestEqual:
    @settings(max_examples=100, deadline=None)
    @given(counts=counts_of_modalities, batch_size=st.integers(3, 9), epoch=st.integers(0, 5))
    def test_modalities_equally_often(self, counts: dict[str, int], batch_size: int, epoch: int) -> None:
        loader, samples = make_loader(counts, batch_size, sampling="equal")
        seen = Counter(key for batch in loader.epoch_keys(epoch) for key in batch)
        by_modality = Counter(samples[key].modality for key in seen.elements())
        borrowed = sum(seen.values()) - len(samples)
        assert borrowed == (1 if len(samples) == 1 else 0)
        if not borrowed:
            assert max(by_modality.values()) - min(by_modality.get(name, 0) for name in counts) <= 1
            for name in counts:
                times = [seen[key] for key in samples if samples[key].modality == name]
                assert max(times) - min(times) <= 1  # none again before all of its modality were taken

    def test_all_images_of_a_large_modality_come_in_the_end(self) -> None:
        loader, samples = make_loader({"xray": 20, "ultrasound": 4}, 6, sampling="equal")
        seen = {key for epoch in range(12) for batch in loader.epoch_keys(epoch) for key in batch}
        assert seen == set(samples)


class TestRandomness:
    @pytest.mark.parametrize("sampling", ["proportional", "equal"])
    @pytest.mark.parametrize("batching", ["mixed", "single_modality"])
    def test_a_function_of_seed_and_epoch(self, sampling: str, batching: str) -> None:
        options = {"sampling": sampling, "batching": batching}
        counts = {"xray": 13, "ultrasound": 9}
        loader, _ = make_loader(counts, 4, seed=5, **options)
        list(loader.epoch(0))  # what was drawn before plays no part
        other, _ = make_loader(counts, 4, seed=5, **options)
        assert loader.epoch_keys(7) == other.epoch_keys(7)
        assert loader.epoch_keys(7) != loader.epoch_keys(8)
        assert loader.epoch_keys(7) != make_loader(counts, 4, seed=6, **options)[0].epoch_keys(7)

    def test_order_of_the_keys_given_plays_no_part(self) -> None:
        cache, samples = invented({"xray": 13, "ultrasound": 9})
        orders = [list(samples), list(samples)[::-1]]
        one, other = (
            EpochLoader(Pixels(cache, keys), keys, MODALITIES, samples, 4, seed=1).epoch_keys(0) for keys in orders
        )
        assert one == other

    def test_modalities_of_single_modality_batches_are_mixed_in_time(self) -> None:
        loader, _ = make_loader({"xray": 40, "ultrasound": 40}, 4, batching="single_modality")
        order = [batch[0].split("/")[0] for batch in loader.epoch_keys(0)]
        assert sum(one != next_one for one, next_one in pairwise(order)) > 4

    def test_global_generators_are_left_alone(self) -> None:
        loader, _ = make_loader({"xray": 9}, 4)
        torch.manual_seed(0)
        random.seed(0)
        before = torch.get_rng_state(), random.getstate()
        list(loader.epoch(0))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]


class TestBatches:
    def test_tensors(self) -> None:
        cache, samples = invented({"xray": 5, "dermoscopy": 4})
        loader = EpochLoader(Pixels(cache, samples), list(samples), MODALITIES, samples, 4)
        domains = sorted({sample.domain_key for sample in samples.values()})
        for batch in loader.epoch(0):
            count = len(batch)
            assert batch.images.shape == (count, 3, 32, 32) and batch.images.dtype == torch.float32
            assert batch.masks.shape == (count, 1, 32, 32) and batch.masks.dtype == torch.float32
            assert batch.images.is_contiguous()
            assert batch.modality.dtype == batch.domain.dtype == torch.int64
            for number, key in enumerate(batch.keys):
                row = cache.index[key]
                assert torch.allclose(batch.images[number], torch.tensor(row / 255))
                assert (batch.masks[number] == row % 2).all()
                assert MODALITIES[batch.modality[number]] == samples[key].modality
                assert domains[batch.domain[number]] == samples[key].domain_key

    def test_evaluation_in_order_each_once(self) -> None:
        cache, samples = invented({"xray": 5, "dermoscopy": 4})
        keys = list(samples)[::-1]
        batches = list(evaluation_batches(Pixels(cache, keys), keys, MODALITIES, samples, 4))
        assert [batch.keys for batch in batches] == [keys[:4], keys[4:8], keys[8:]]
        assert [round(float(image.mean() * 255)) for b in batches for image in b.images] == list(range(9))[::-1]

    def test_evaluation_of_nothing(self) -> None:
        cache, samples = invented({"xray": 2})
        assert list(evaluation_batches(Pixels(cache, []), [], MODALITIES, samples, 4)) == []

    @settings(max_examples=50, deadline=None)
    @given(count=st.integers(1, 20), size=st.integers(1, 20))
    def test_chunks(self, count: int, size: int) -> None:
        batch = Batch(
            torch.arange(count * 3.0).reshape(count, 3, 1, 1),
            torch.zeros(count, 1, 1, 1),
            torch.arange(count),
            torch.zeros(count, dtype=torch.int64),
            [str(number) for number in range(count)],
        )
        parts = batch.chunks(size)
        sizes = [len(part) for part in parts]
        assert sum(sizes) == count and max(sizes) <= size and max(sizes) - min(sizes) <= 1
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
        assert torch.cat([part.modality for part in parts]).tolist() == [int(k) for part in parts for k in part.keys]

    def test_to(self) -> None:
        cache, samples = invented({"xray": 3})
        batch = next(evaluation_batches(Pixels(cache, samples), list(samples), MODALITIES, samples, 4)).to("meta")
        tensors = (batch.images, batch.masks, batch.modality, batch.domain)
        assert all(tensor.device.type == "meta" for tensor in tensors)

    def test_files_to_batches(self, small_dataset: Path, tmp_path: Path) -> None:
        dataset = Dataset.open(small_dataset, verify=False)
        cache = ArrayCache.open(dataset.samples, 32, tmp_path)
        loader = EpochLoader(
            Pixels(cache, dataset.by_key()), list(dataset.by_key()), dataset.modalities(), dataset.by_key(), 5
        )
        for batch in loader.epoch(0):
            assert batch.images.min() >= 0 and 0.2 < batch.images.max() <= 1
            assert set(batch.masks.unique().tolist()) == {0.0, 1.0}
            # The ellipses are darker than their ground: image and mask of a row belong together.
            inside = (batch.images * batch.masks).sum((1, 2, 3)) / (3 * batch.masks.sum((1, 2, 3)))
            assert (inside < batch.images.mean((1, 2, 3))).all()


class TestFaults:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"sampling": "equel"}, r"Unknown training\.sampling 'equel'\. Did you mean 'equal'\?"),
            ({"batching": "single"}, r"Unknown training\.batching 'single'\. Available: domain_balanced, mixed"),
            ({"batch_size": 0}, "batch_size=0"),
            ({"seed": -1}, "seed=-1"),
            ({"keys": []}, "found 0 keys"),
            ({"keys": ["xray/d0/i000"] * 2}, "found 2 keys, 1 different"),
            ({"modalities": ["dermoscopy"]}, "built for the modalities dermoscopy; found images of 'xray'"),
        ],
    )
    def test_options(self, options: dict[str, object], message: str) -> None:
        cache, samples = invented({"xray": 3})
        arguments = {"keys": list(samples), "modalities": MODALITIES, "batch_size": 2} | options
        with pytest.raises(UserError, match=message):
            EpochLoader(Pixels(cache, samples), samples_by_key=samples, **arguments)  # type: ignore[arg-type]

    def test_batch_size_of_evaluation(self) -> None:
        cache, samples = invented({"xray": 3})
        with pytest.raises(UserError, match="found 0"):
            next(evaluation_batches(Pixels(cache, samples), list(samples), MODALITIES, samples, 0))
