"""Images into a network's square and masks out of it."""

from __future__ import annotations

import pytest
import torch

from baselines.sam.preprocessing import Preprocessing


def test_the_longest_side_fills_the_square_and_the_rest_is_zeros() -> None:
    pixels = Preprocessing("sam", True, 64).pixels(torch.ones(1, 3, 30, 40))
    white = (torch.tensor([1 - 0.485, 1 - 0.456, 1 - 0.406]) / torch.tensor([0.229, 0.224, 0.225])).view(1, 3, 1, 1)
    assert pixels.shape == (1, 3, 64, 64)
    torch.testing.assert_close(pixels[:, :, :48], white.expand(1, 3, 48, 64), atol=1e-4, rtol=1e-4)
    assert not pixels[:, :, 48:].any()


def test_minmax_is_of_the_image_and_not_of_the_padding() -> None:
    image = 0.5 + 0.25 * torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    pixels = Preprocessing("minmax", True, 64).pixels(image)
    assert pixels[..., :32].min() == 0 and pixels[..., :32].max() == 1 and not pixels[..., 32:].any()
    assert Preprocessing("minmax", False, 64).pixels(image)[..., 32:].any()


@pytest.mark.parametrize("keeps_aspect", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (48, 30), (100, 200)])
def test_a_mask_comes_back_where_it_was(keeps_aspect: bool, size: tuple[int, int]) -> None:
    height, width = size
    preprocessing = Preprocessing("minmax", keeps_aspect, 64)
    mask = torch.zeros(1, 3, height, width)
    mask[..., height // 4 : height // 2, width // 3 : width // 2] = 1
    back = preprocessing.logits(preprocessing.pixels(mask)[:, :1] - 0.5, height, width) > 0
    assert back.shape == (1, 1, height, width)
    common, both = (back & (mask[:, :1] > 0)).sum(), back.sum() + mask[:, :1].sum()
    assert 2 * common / both > 0.93


def test_coordinates_are_those_of_pixel_centres() -> None:
    stretched = Preprocessing("sam", False, 64).coordinates(torch.tensor([[0.0, 0, 31, 127]]), 128, 32)
    assert stretched.tolist() == [[0.5, -0.25, 62.5, 63.25]]
    kept = Preprocessing("sam", True, 64).coordinates(torch.tensor([[31.0, 127]]), 128, 32)
    assert kept.tolist() == [[15.25, 63.25]]
    same = torch.tensor([[3.0, 4, 5, 6]])
    assert torch.equal(Preprocessing("sam", True, 64).coordinates(same, 64, 64), same)
