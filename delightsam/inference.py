"""The inference form of a model: the same function with less work."""

from __future__ import annotations

import torch
from torch import nn

from delightsam.attention import WindowAttention
from delightsam.decoder import Decoder
from delightsam.layers import ConvNorm


@torch.no_grad()
def fuse_modules(model: nn.Module) -> None:
    """Folds every BatchNorm, and has attention biases and position codes cached, in place."""
    for module in model.modules():
        if isinstance(module, ConvNorm):
            module.fuse()
        elif isinstance(module, WindowAttention):
            module.cache_bias = True
        elif isinstance(module, Decoder):
            module.cache_position = True
