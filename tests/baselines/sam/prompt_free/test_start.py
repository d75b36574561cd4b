"""The default prompt against the packages' own forward pass, for images of any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.lite_medsam import package

from baselines.sam.prompt_free.start import HubStart, LightStart, read_start
from tests.baselines.sam.tiny import make as make_hub
from tests.baselines.sam.tiny import squares


def drawn(start: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return start.draw(start.embed(pixels) + start.no_mask[:, None, None])


def test_the_default_prompt_of_lite_medsam_is_that_of_its_package(lite_medsam: str) -> None:
    net = package(64)
    embedding = torch.randn((2, 256, 16, 16), generator=torch.Generator().manual_seed(0)) * 0.2
    start = read_start("lite_medsam", lite_medsam)
    with torch.inference_mode():
        found = start.draw(embedding + start.no_mask[:, None, None])
        for image, masks in zip(embedding, found, strict=True):
            # The package takes no prompt at all: its prompt encoder is asked for its two default answers.
            sparse = torch.empty((1, 0, 256))
            dense = net.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, 16, 16)
            expected, _ = net.mask_decoder(
                image_embeddings=image[None],
                image_pe=net.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            assert expected.std() > 0.01
            torch.testing.assert_close(masks, expected[0], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["sam", "medsam"])
def test_the_default_prompt_of_sam_is_that_of_transformers(family: str, weights: dict[str, str]) -> None:
    start = read_start(family, weights[family]).eval()
    assert isinstance(start, HubStart)
    pixels = start.frame(64, 64).pixels(squares(2).images)
    model: Any = make_hub("sam")
    with torch.inference_mode():
        expected = model(pixel_values=pixels, multimask_output=False).pred_masks[:, 0]
    assert expected.std() > 1e-3
    torch.testing.assert_close(drawn(start, pixels), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "stride", "size", "side"),
    [
        ("lite_medsam", 4, (96, 96), 96),
        ("lite_medsam", 4, (33, 70), 72),
        ("mobile_sam", 16, (64, 64), 64),
        ("mobile_sam", 16, (50, 30), 64),
    ],
)
def test_light_starts_take_images_at_their_own_size(
    family: str, stride: int, size: tuple[int, int], side: int, weights: dict[str, str]
) -> None:
    start = read_start(family, weights[family]).eval()
    assert isinstance(start, LightStart)
    frame = start.frame(*size)
    assert frame.side == side
    with torch.inference_mode():
        embedding = start.embed(frame.pixels(squares(1, *size).images))
    assert embedding.shape == (1, 256, side // stride, side // stride)


def test_wrong_names_and_files(lite_medsam: str, mobile_sam: str) -> None:
    with pytest.raises(ValueError, match=r"Unknown family 'lite_medsm'\. Did you mean 'lite_medsam'"):
        read_start("lite_medsm", lite_medsam)
    with pytest.raises(ValueError, match="to hold lite_medsam weights; found mobile_sam"):
        read_start("lite_medsam", mobile_sam)
