"""Fixed versions are made once, and are the same whether they are kept or not."""

from __future__ import annotations

import pytest
import torch
from invented_samples import MODALITIES

from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.augmentation import Augmentation
from harness.data.batches.loader import EpochLoader
from harness.data.batches.pixels import Pixels
from harness.data.batches.versions import FixedVersions
from harness.data.dataset import Dataset
from harness.data.phantoms import write_phantoms


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> EpochLoader:
    folder = tmp_path_factory.mktemp("versions")
    write_phantoms(folder / "data", images_per_domain=3, image_size=64, modalities=["xray", "dermoscopy"])
    dataset = Dataset.open(folder / "data")
    samples = dataset.by_key()
    pixels = Pixels(ArrayCache.open(dataset.samples, 64, folder / "cache"), samples)
    return EpochLoader(pixels, list(samples), MODALITIES, samples, 5, seed=1)


def test_each_version_is_made_once_and_comes_again(loader: EpochLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    version = Augmentation.version
    monkeypatch.setattr(
        Augmentation, "version", lambda self, batch, number: made.append(len(batch)) or version(self, batch, number)
    )
    versions = FixedVersions(loader, Augmentation("standard"), 2)
    for epoch in range(4):
        list(versions.epoch(epoch, epoch % 2))
    assert sum(made) == 2 * len(loader.keys)


def test_kept_or_made_anew_they_are_the_same(loader: EpochLoader) -> None:
    augmentation = Augmentation("standard")
    kept, anew = FixedVersions(loader, augmentation, 2), FixedVersions(loader, augmentation, 2, share=0)
    for epoch, number in ((0, 0), (1, 1), (2, 0)):
        for first, second in zip(kept.epoch(epoch, number), anew.epoch(epoch, number), strict=True):
            assert first.keys == second.keys
            assert torch.equal(first.images, second.images) and torch.equal(first.masks, second.masks)
            assert first.image_names == second.image_names


def test_every_version_of_every_image_has_a_name_of_its_own(loader: EpochLoader) -> None:
    versions, names = FixedVersions(loader, Augmentation("standard"), 3), set()
    batches = [batch for number in range(3) for batch in versions.epoch(0, number)]
    for batch in [*batches, *loader.epoch(0)]:
        assert batch.image_names is not None
        names |= set(batch.image_names)
    assert len(names) == 4 * len(loader.keys)
