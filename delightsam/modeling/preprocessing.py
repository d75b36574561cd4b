"""How pixel values become network input. Weights expect the preset they were trained with; it is part of the config."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_SAM_MEAN = (123.675, 116.28, 103.53)
_SAM_STD = (58.395, 57.12, 57.375)

# name -> (mean, std) on values of 0..255; None: each image by its own minimum and maximum.
PRESETS: dict[str, tuple[tuple[float, ...], tuple[float, ...]] | None] = {
    "sam": (_SAM_MEAN, _SAM_STD),  # SAM, MobileSAM, and models trained here
    "authors": (
        _SAM_MEAN,
        _SAM_MEAN,
    ),  # published De-LightSAM weights: their "std" is the mean again, by a slip
    "minmax": None,  # LiteMedSAM
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),  # plain [0, 1]
}


def normalise(images: Tensor, preset: str) -> Tensor:
    """Normalises images by a preset of PRESETS.

    Args:
        images: (B, 3, H, W) float in [0, 1], RGB.
        preset: "sam", "authors", "minmax" or "unit".

    Returns:
        (B, 3, H, W) float; "minmax" gives an image of one single value as zeros.

    Raises:
        ValueError: unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"Unknown preprocessing preset '{preset}'. Available: {', '.join(sorted(PRESETS))}.")
    values = PRESETS[preset]
    if values is None:
        low = images.amin(dim=(1, 2, 3), keepdim=True)
        high = images.amax(dim=(1, 2, 3), keepdim=True)
        return (images - low) / (high - low).clamp(min=1e-8)
    mean, std = (_constant(v, images.dtype, images.device) for v in values)
    return (images - mean) / std


@cache
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept on its device: to send it there again for every batch would make the program wait."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device).view(1, 3, 1, 1) / 255
