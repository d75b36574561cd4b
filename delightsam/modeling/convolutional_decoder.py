"""A plain decoder in place of the QM-Decoder: what the encoder alone gives, without queries. An ablation."""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.modeling.controllers import Group, Mixture
from delightsam.modeling.encoder import EMBEDDING_CHANNELS
from delightsam.modeling.layers import ConvNorm

WIDTHS = (EMBEDDING_CHANNELS, 128, 64, 32)


class ConvolutionalDecoder(nn.Module):
    """Three levels of two 3x3 convolutions with BatchNorm and ReLU, as in U-Net, twice as fine from one to the next.

    It takes no account of the modality.
    """

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNorm(a, b, 3), nn.ReLU(), ConvNorm(b, b, 3), nn.ReLU()) for a, b in pairwise(WIDTHS)
        )
        self.head = nn.Conv2d(WIDTHS[-1], 1, 1)

    def forward(self, embedding: Tensor, groups: Sequence[Group] | Mixture) -> Tensor:
        """Mask logits (B, 1, 4h, 4w) of an embedding (B, 256, h, w); `groups` as in the QM-Decoder, not used."""
        x = self.levels[0](embedding)
        for level in self.levels[1:]:
            x = level(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        return self.head(x)
