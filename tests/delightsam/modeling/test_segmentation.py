"""From images of any size to masks of that size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from delightsam import DeLightSAM
from delightsam.modeling.segmentation import as_rgb, modality_number

Build = Callable[..., DeLightSAM]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_batch_of_sizes_and_modalities_equals_one_at_a_time(build: Build) -> None:
    model = build(image_size=64)
    images, modality = [picture(40, 70, 1), picture(64, 64, 2), picture(33, 31, 3)], ["dermoscopy", 2, "colonoscopy"]
    together = model.segment_batch(images, modality, batch_size=2, probabilities=True)
    for image, name, found in zip(images, modality, together, strict=True):
        alone = model.segment_batch([image], name, probabilities=True)[0]
        assert found.shape == image.shape[:2] and found.dtype == np.float32
        assert np.abs(found - alone).max() < 1e-4
        assert np.array_equal(model.segment(image, name), alone > 0.5)


def test_a_name_is_its_number_and_grey_is_repeated(build: Build) -> None:
    model, grey = build(image_size=64), picture(50, 40)[..., 0]
    mask = model.segment(grey, "ultrasound")
    assert 0 < mask.mean() < 1
    assert np.array_equal(mask, model.segment(np.stack([grey] * 3, axis=2), 2))
    assert np.array_equal(mask, model.segment(grey[..., None], 2))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (picture(8, 8).astype(np.float32), "of float32. Scale its values"),
        (np.zeros((8, 8, 4), np.uint8), "Drop the alpha channel"),
        (np.zeros((3, 8, 9), np.uint8), "Move the channels to the end"),
        (np.zeros((2, 8, 8, 3), np.uint8), "segment_batch"),
        (np.zeros((0, 8, 3), np.uint8), "found shape"),
        ([[1, 2]], "found list"),
    ],
)
def test_what_is_no_image_is_refused(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_rgb(image)


def test_unknown_modalities_are_refused(build: Build) -> None:
    model = build(image_size=64)
    with pytest.raises(ValueError, match="Did you mean 'fundus'"):
        modality_number("fundos")
    with pytest.raises(ValueError, match="not made for modality 3 fundus; it knows 0 dermoscopy, 2 ultrasound"):
        model.segment(picture(8, 8), "fundus")
    with pytest.raises(ValueError, match="one for each of 2 images; found 3"):
        model.segment_batch([picture(8, 8)] * 2, [0, 2, 5])
