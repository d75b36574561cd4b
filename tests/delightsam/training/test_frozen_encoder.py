"""`FrozenEmbeddings`: what is kept belongs to what the encoder was shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from delightsam.training.frozen_encoder import FrozenEmbeddings

pytestmark = pytest.mark.usefixtures("shallow")

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ENCODER = nn.BatchNorm2d(3)


def embeddings(folder: Path | None) -> FrozenEmbeddings:
    made = FrozenEmbeddings()
    if folder is not None:
        made.use(folder)
    return made


def test_the_same_names_after_another_preprocessing_are_other_images(tmp_path: Path) -> None:
    shared = embeddings(tmp_path)
    found = [
        shared(ENCODER, ENCODER, images, ["a", "b"], preprocessing=word, come_again=False)
        for word, images in (("minmax", IMAGES), ("sam", 2 * IMAGES), ("minmax", 3 * IMAGES))
    ]
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


@pytest.mark.parametrize(("come_again", "passes"), [(True, 2), (False, 4)])
def test_images_without_a_name_are_known_by_their_pixels_where_they_come_again(
    come_again: bool, passes: int, tmp_path: Path
) -> None:
    shared, asked = embeddings(tmp_path), []

    def encode(images: torch.Tensor) -> torch.Tensor:
        asked.extend(images)
        return images

    for _ in range(2):
        shared(ENCODER, encode, IMAGES, None, preprocessing="sam", come_again=come_again)
    assert len(asked) == passes


def test_without_a_folder_nothing_is_rounded_and_nothing_learns() -> None:
    encoder = nn.BatchNorm2d(3).train()
    found = embeddings(None)(encoder, encoder, IMAGES, ["a", "b"], preprocessing="sam", come_again=True)
    assert torch.equal(found, nn.BatchNorm2d(3).eval()(IMAGES)) and not found.requires_grad
    assert not encoder.training and not encoder.running_mean.any()
