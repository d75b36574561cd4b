"""Geometry: any image becomes squares and comes back; nothing of it is lost, and padding leaves no trace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.config import TrainingConfig
from harness.config.validation import OneOf, rule_of
from harness.data.batches.array_cache import VERSION, ArrayCache
from harness.data.batches.augmentation import Augmentation
from harness.data.batches.geometry import GEOMETRIES, OVERLAP, Geometry, Layout, MergedLogits, layout, window_weights
from harness.data.batches.loader import Batch, EpochLoader, evaluation_batches
from harness.data.batches.pixels import Pixels
from harness.data.batches.versions import FixedVersions
from harness.data.dataset import Dataset, Sample
from harness.data.phantoms import write_phantoms
from harness.errors import UserError
from harness.files import sha256_json
from harness.inference.predict import merged

MODALITIES = ["microscopy", "xray"]
sides = st.one_of(st.integers(1, 40), st.integers(1, 300))
windows = st.sampled_from([32, 64])
any_size = settings(max_examples=150, deadline=None)


def merge(where: Layout, logits: np.ndarray) -> MergedLogits:
    """Of logits (N, S, S)."""
    found = MergedLogits(where)
    for number, own in enumerate(logits):
        found.add(number, torch.from_numpy(own.astype(np.float32)))
    return found


def drawn_mask(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width)) < 0.5


class TestTiles:
    @any_size
    @given(sides, sides, windows, st.integers(0, 9))
    def test_a_mask_comes_back_as_it_was(self, height: int, width: int, size: int, seed: int) -> None:
        mask, where = drawn_mask(height, width, seed), layout("tiles", height, width, size)
        arrays = where.masks(mask)
        assert arrays.shape == (where.count, size, size)
        assert np.array_equal(merge(where, arrays * 2.0 - 1).mask(), mask)

    @any_size
    @given(sides, sides, windows)
    def test_equal_logits_keep_their_values(self, height: int, width: int, size: int) -> None:
        where = layout("tiles", height, width, size)
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        native = merge(where, where.images(image)[..., 0]).native().numpy()
        np.testing.assert_allclose(native, image[..., 0], rtol=1e-5)

    @any_size
    @given(sides, sides, windows)
    def test_windows_lie_on_the_canvas_and_cover_it(self, height: int, width: int, size: int) -> None:
        where = layout("tiles", height, width, size)
        for numbers in (range(where.count), where.covering):
            covered = np.zeros(where.canvas, bool)
            for row, column in (where.corners[number] for number in numbers):
                assert 0 <= row <= where.canvas[0] - size and 0 <= column <= where.canvas[1] - size
                covered[row : row + size, column : column + size] = True
            assert covered.all()

    @any_size
    @given(st.integers(33, 4000))
    def test_neighbours_share_enough_and_no_window_is_needless(self, side: int) -> None:
        steps = layout("tiles", side, side, 32).steps[0]
        gaps = np.diff(steps)
        assert gaps.max() <= 32 * (1 - OVERLAP) and gaps.max() - gaps.min() <= 1
        assert len(steps) == 1 + -(-(side - 32) // 16)

    def test_covering_windows_are_few(self) -> None:
        assert layout("tiles", 512, 512, 128).count == 49
        assert len(layout("tiles", 512, 512, 128).covering) == 16
        assert len(layout("tiles", 500, 130, 128).covering) == 4 * 2

    def test_the_middle_of_a_window_counts_most(self) -> None:
        weights = window_weights(64)
        assert (weights > 0).all() and weights.argmax() in (31 * 64 + 31, 32 * 64 + 32, 31 * 64 + 32, 32 * 64 + 31)
        # One standard deviation, an eighth of the side, from the middle.
        assert weights[32 + 8, 32] / weights[32, 32] == pytest.approx(np.exp(-0.5), rel=0.07)
        where = layout("tiles", 64, 128, 64)
        merged_logits = merge(where, np.stack([np.full((64, 64), value) for value in (-1.0, 0.0, 1.0)])).native()
        line = merged_logits[10].tolist()
        assert line[0] == -1 and line[-1] == 1 and line == sorted(line)
        assert line[63] == pytest.approx(0, abs=0.05)


class TestLetterbox:
    @any_size
    @given(sides, sides, windows, st.booleans())
    def test_padding_leaves_no_trace(self, height: int, width: int, size: int, value: bool) -> None:
        where = layout("letterbox", height, width, size)
        (array,) = where.masks(np.ones((height, width), bool))
        # Logits of the padding are as wrong as can be.
        logits = np.where(array, 1.0 if value else -1.0, -1e6 if value else 1e6)
        assert (merge(where, logits[None]).mask() == value).all()
        rows, columns = np.nonzero(array)
        assert array[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        assert max(where.inner) == size
        assert abs(rows.min() - (size - 1 - rows.max())) <= 1 and abs(columns.min() - (size - 1 - columns.max())) <= 1

    @any_size
    @given(st.integers(1, 64), st.booleans(), st.integers(0, 9))
    def test_an_image_that_fits_as_it_is_comes_back_as_it_was(self, side: int, turned: bool, seed: int) -> None:
        height, width = (side, 64) if turned else (64, side)
        mask, where = drawn_mask(height, width, seed), layout("letterbox", height, width, 64)
        assert np.array_equal(merge(where, where.masks(mask) * 2.0 - 1).mask(), mask)

    def test_sides_keep_their_ratio_and_the_ground_is_black(self) -> None:
        where = layout("letterbox", 50, 100, 64)
        (array,) = where.images(np.full((50, 100, 3), 200, np.uint8))
        assert where.inner == (32, 64)
        assert (array[16:48] == 200).all() and not array[:16].any() and not array[48:].any()
        assert layout("letterbox", 1, 5000, 32).inner == (1, 32)


class TestStretch:
    @any_size
    @given(sides, sides, windows)
    def test_is_what_it_always_was(self, height: int, width: int, size: int) -> None:
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        where = layout("stretch", height, width, size)
        expected = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
        assert np.array_equal(where.images(image), expected[None])
        logits = torch.randn(1, 1, size, size)
        resized = torch.nn.functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        assert torch.equal(merge(where, logits[0].numpy()).native(), resized[0, 0])

    def test_a_mask_is_cut_where_the_logit_is_nought(self) -> None:
        mask = merge(layout("stretch", 3, 8, 2), np.array([[[-1.0, 1.0], [-1.0, 1.0]]])).mask()
        assert mask.dtype == np.bool_
        # Half way between -1 and 1 lies the middle of the picture.
        assert mask.tolist() == [[False] * 4 + [True] * 4] * 3
        assert not merge(layout("stretch", 4, 4, 2), np.zeros((1, 2, 2))).mask().any()


def test_no_more_arrays_are_asked_for_than_the_next_mask_needs() -> None:
    wheres = [layout("tiles", 64, 64, 32), layout("tiles", 20, 40, 32)]
    guesses = ["b", "a", "a", "b", "b", "a", "a", "b", "c", "z", "y"]
    taken: list[int] = []

    def answers() -> object:
        for number in range(11):
            taken.append(number)
            yield torch.full((1, 32, 32), 1.0 if number < 9 else -1.0), guesses[number]

    found = merged(iter(wheres), answers())  # type: ignore[arg-type]
    mask, guess = next(found)
    assert mask.shape == (64, 64) and mask.all() and len(taken) == wheres[0].count == 9
    assert guess == "b"  # four b, three a, one c: the most, not the first letter
    mask, guess = next(found)
    assert mask.shape == (20, 40) and not mask.any()
    assert guess == "z"  # of as many the first


def test_the_names_are_checked_with_a_hint() -> None:
    rule = rule_of(TrainingConfig, "geometry")
    assert isinstance(rule, OneOf) and rule.choices == GEOMETRIES
    with pytest.raises(UserError, match="Did you mean 'tiles'"):
        layout("tile", 5, 5, 32)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    """2 modalities x 3 domains x 2 images of 72 to 90 pixels."""
    root = tmp_path_factory.mktemp("geometry") / "data"
    write_phantoms(root, images_per_domain=2, image_size=80, modalities=MODALITIES)
    return Dataset.open(root).by_key()


@pytest.fixture(scope="module")
def caches(samples: dict[str, Sample], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ArrayCache]:
    folder = tmp_path_factory.mktemp("caches")
    return {name: ArrayCache.open(list(samples.values()), 64, folder, geometry=Geometry(name)) for name in GEOMETRIES}


def loader_of(cache: ArrayCache, samples: dict[str, Sample], **options: int) -> EpochLoader:
    return EpochLoader(Pixels(cache, samples), list(samples), MODALITIES, samples, 4, **options)  # type: ignore[arg-type]


def names_in(batches: list[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.image_names or []]


class TestCache:
    def test_that_of_stretched_images_keeps_its_name(
        self, caches: dict[str, ArrayCache], samples: dict[str, Sample]
    ) -> None:
        content = [[sample.image_content, sample.sha256_mask] for _, sample in sorted(samples.items())]
        assert caches["stretch"].folder.name == sha256_json({"version": VERSION, "size": 64, "content": content})[:32]
        assert len({cache.folder for cache in caches.values()}) == 3

    def test_modalities_may_have_geometries_of_their_own(
        self, caches: dict[str, ArrayCache], samples: dict[str, Sample], tmp_path: Path
    ) -> None:
        """Each image's arrays, and their names, are those of a cache that holds its rule for all."""
        mixed = ArrayCache.open(list(samples.values()), 64, tmp_path, geometry=Geometry("letterbox", MODALITIES[:1]))
        counts = set()
        for key, sample in samples.items():
            alike = caches["tiles" if sample.modality == MODALITIES[0] else "letterbox"]
            assert mixed.windows(key) == alike.windows(key) and mixed.layout_of(sample) == alike.layout_of(sample)
            rows, expected = mixed.rows(mixed.windows(key)), alike.rows(alike.windows(key))
            assert np.array_equal(mixed.images[rows], alike.images[expected])
            assert np.array_equal(mixed.masks[rows], alike.masks[expected])
            names = [
                names_in(list(evaluation_batches(Pixels(cache, samples), [key], MODALITIES, samples, 4)))
                for cache in (mixed, alike)
            ]
            assert names[0] == names[1]
            counts.add(len(rows))
        assert min(counts) == 1 < max(counts)

    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_rows_are_what_the_layout_cuts(
        self, caches: dict[str, ArrayCache], samples: dict[str, Sample], geometry: str
    ) -> None:
        from harness.data.reading import read_image, read_mask

        cache = caches[geometry]
        assert isinstance(cache.images, np.memmap)
        for key, sample in samples.items():
            rows, where = cache.rows(cache.windows(key)), cache.layout_of(sample)
            assert len(rows) == where.count
            assert np.array_equal(cache.images[rows], where.images(read_image(sample.image, sample.white_level)))
            assert np.array_equal(cache.masks[rows], where.masks(read_mask(sample.mask)))

    def test_a_size_that_is_not_the_manifests_is_refused(self, samples: dict[str, Sample], tmp_path: Path) -> None:
        from dataclasses import replace

        first = next(iter(samples.values()))
        with pytest.raises(UserError, match="as the manifest says"):
            ArrayCache.open([replace(first, width=first.width + 1)], 64, tmp_path, geometry=Geometry("tiles"))

    def test_few_bytes_are_decoded_at_once(
        self, samples: dict[str, Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("harness.data.batches.array_cache._BYTES_AT_ONCE", 1)
        done: list[int] = []
        ArrayCache.open(list(samples.values()), 64, tmp_path, lambda a, b: done.append(a), geometry=Geometry("tiles"))
        assert done == list(range(1, len(samples) + 1))


class TestBatches:
    def test_an_image_stands_for_one_window_an_epoch(
        self, caches: dict[str, ArrayCache], samples: dict[str, Sample]
    ) -> None:
        stretched, tiled = (loader_of(caches[name], samples, seed=3) for name in ("stretch", "tiles"))
        for epoch in range(3):
            before, after = list(stretched.epoch(epoch)), list(tiled.epoch(epoch))
            # As many arrays and steps, of the same images in the same batches.
            assert [Counter(batch.keys) for batch in before] == [Counter(batch.keys) for batch in after]
            assert all(batch.images.shape[2:] == (64, 64) for batch in after)

    def test_all_windows_come_in_the_end_and_equally_often(
        self, caches: dict[str, ArrayCache], samples: dict[str, Sample]
    ) -> None:
        tiled = loader_of(caches["tiles"], samples)
        seen = Counter(name for epoch in range(150) for name in names_in(list(tiled.epoch(epoch))))
        assert len(seen) == len(caches["tiles"].index)
        assert max(seen.values()) < 3.5 * min(seen.values())

    def test_a_function_of_seed_and_epoch(self, caches: dict[str, ArrayCache], samples: dict[str, Sample]) -> None:
        def drawn(seed: int, epoch: int) -> list[str]:
            return names_in(list(loader_of(caches["tiles"], samples, seed=seed).epoch(epoch)))

        assert drawn(1, 5) == drawn(1, 5)
        assert set(drawn(1, 5)) != set(drawn(1, 6))
        assert set(drawn(1, 5)) != set(drawn(2, 5))

    def test_an_image_that_comes_twice_shows_two_windows(
        self, caches: dict[str, ArrayCache], samples: dict[str, Sample]
    ) -> None:
        few = [key for key in samples if key.startswith("xray")][:1]
        keys = few + [key for key in samples if key.startswith("microscopy")]
        loader = EpochLoader(Pixels(caches["tiles"], keys), keys, MODALITIES, samples, 4, sampling="equal")
        own = [
            {name for batch in loader.epoch(epoch) for k, name in zip(batch.keys, batch.image_names, strict=True) if k in few}
            for epoch in range(4)
        ]  # fmt: skip
        assert max(map(len, own)) > 1

    @pytest.mark.parametrize("covering", [False, True])
    def test_tested_images_come_window_after_window(
        self, caches: dict[str, ArrayCache], samples: dict[str, Sample], covering: bool
    ) -> None:
        cache, keys = caches["tiles"], list(samples)[::-1]
        batches = list(evaluation_batches(Pixels(cache, keys), keys, MODALITIES, samples, 5, covering=covering))
        counts = {key: len(cache.layouts[key].covering) if covering else cache.layouts[key].count for key in keys}
        assert [key for batch in batches for key in batch.keys] == [key for key in keys for _ in range(counts[key])]
        assert {len(batch) for batch in batches[:-1]} == {5}

    def test_no_two_geometries_share_a_name_of_pixels(
        self, caches: dict[str, ArrayCache], samples: dict[str, Sample]
    ) -> None:
        """Embeddings of a frozen encoder are kept under these names."""
        names = {
            name: names_in(list(evaluation_batches(Pixels(cache, samples), list(samples), MODALITIES, samples, 4)))
            for name, cache in caches.items()
        }
        together = [name for own in names.values() for name in own]
        assert len(set(together)) == len(together)
        assert names["stretch"] == [f"{sample.image_content} 64" for sample in samples.values()]

    def test_a_version_has_its_window_whatever_the_seed(
        self, caches: dict[str, ArrayCache], samples: dict[str, Sample]
    ) -> None:
        augmentation = Augmentation("standard")

        def version(number: int, seed: int, share: float, epoch: int) -> dict[str, torch.Tensor]:
            versions = FixedVersions(loader_of(caches["tiles"], samples, seed=seed), augmentation, 3, share)
            batches = list(versions.epoch(epoch, number))
            images = [image for batch in batches for image in batch.images]
            return dict(zip(names_in(batches), images, strict=True))

        first, again = version(1, 0, 0.5, 0), version(1, 7, 0, 4)
        assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)
        shown = {name.rpartition(" standard")[0] for number in range(3) for name in version(number, 0, 0.5, 0)}
        assert len(shown) > len(samples)  # other numbers are of other windows
