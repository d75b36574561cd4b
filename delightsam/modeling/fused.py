"""The inference form of a model: the same function with less work."""

from __future__ import annotations

import torch
from torch import nn

from delightsam.modeling.decoder import Decoder
from delightsam.modeling.layers import ConvNorm, TokenMLP


@torch.no_grad()
def fuse_modules(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Does once what every pass of a model in eval mode would do again, in place, then converts it to `dtype`.

    Every BatchNorm goes into its convolution, the affine part of every MLP's LayerNorm into its first linear layer.
    """
    frequencies = {}
    for module in model.modules():
        if isinstance(module, ConvNorm | TokenMLP):
            module.fuse()
        elif isinstance(module, Decoder):
            frequencies[module] = module.frequencies
    model.to(dtype)
    for decoder, exact in frequencies.items():
        decoder.frequencies = exact  # 2 pi times a rounded one would be far off
