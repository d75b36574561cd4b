"""Pixels come from the arrays as they are, wherever they lie; what Python knows of a batch is never out of date."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from invented_samples import MODALITIES, invented, make_loader

from harness.data.batches.loader import Batch, Known, evaluation_batches
from harness.data.batches.pixels import Pixels
from harness.errors import UserError


def test_rows_of_the_arrays() -> None:
    cache, samples = invented({"xray": 7})
    keys = sorted(samples)[::-1][1:4]
    pixels = Pixels(cache, samples)
    places = pixels.places(keys)
    images, masks = pixels.take(places, torch.tensor(places))
    assert images.dtype == masks.dtype == torch.uint8 and not pixels.is_resident
    assert images[:, 0, 0, 0].tolist() == [cache.index[key] for key in keys]
    assert masks[:, 0, 0].tolist() == [cache.index[key] % 2 for key in keys]


def test_an_image_that_was_not_announced_is_refused() -> None:
    cache, samples = invented({"xray": 3})
    with pytest.raises(UserError, match="found 'xray/nowhere/x'"):
        Pixels(cache, samples).places(["xray/nowhere/x"])


def test_batches_of_an_epoch_lie_by_modality() -> None:
    loader, samples = make_loader({"xray": 9, "dermoscopy": 8, "ultrasound": 7}, 6)
    for batch in loader.epoch(3):
        assert batch.modality.tolist() == sorted(batch.modality.tolist()) == batch.modality_list
        assert [MODALITIES[n] for n in batch.modality_list] == [samples[key].modality for key in batch.keys]


class TestKnown:
    def batch(self) -> Batch:
        cache, samples = invented({"xray": 4, "dermoscopy": 3})
        return next(evaluation_batches(Pixels(cache, samples), sorted(samples), MODALITIES, samples, 8))

    def test_lists_say_what_the_tensors_hold(self) -> None:
        batch = self.batch()
        assert batch.modality_list == batch.modality.tolist() == [0] * 3 + [2] * 4
        assert batch.image_names is not None and len(batch.image_names) == 7
        for part in (*batch.chunks(3), batch.to("cpu")):
            assert part.modality_list == part.modality.tolist()
            assert part.image_names is not None and len(part.image_names) == len(part)

    def test_changed_images_have_no_name(self) -> None:
        """Else an algorithm's images would be given the embedding of the originals."""
        batch = self.batch()
        changed = dataclasses.replace(batch, images=batch.images * 0.5)
        assert changed.image_names is None and changed.modality_list == batch.modality_list
        assert all(part.image_names is None for part in changed.chunks(2))

    def test_other_modalities_are_read_again(self) -> None:
        batch = self.batch()
        assert dataclasses.replace(batch, modality=batch.modality.flip(0)).modality_list == [2] * 4 + [0] * 3

    def test_without_a_note_the_tensor_is_read(self) -> None:
        batch = dataclasses.replace(self.batch(), known_modality=None, known_images=None)
        assert batch.modality_list == batch.modality.tolist() and batch.image_names is None
        assert Known(batch.images, []).of(batch.masks) is None
