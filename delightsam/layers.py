"""Small parts that several rooms of the network share."""

# torch types the call of a module as Any.
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """Convolution without bias, then BatchNorm; `fuse()` makes one biased convolution of the two.

    Input (B, in, H, W), output (B, out, H', W').
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    @torch.no_grad()
    def fuse(self) -> None:
        """Folds the norm's running statistics into the convolution, in place. For inference only."""
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert norm.running_mean is not None and norm.running_var is not None
        # Folded in float64: the product of two rounded factors would cost digits that the parity tests see.
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = self.conv.weight.double() * scale[:, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * scale
        dtype = self.conv.weight.dtype
        self.conv.weight.copy_(weight.to(dtype))
        self.conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
        self.norm = nn.Identity()


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W), at every position by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        # The permuted view of a channels-last tensor is contiguous: no copy on either side.
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class TokenMLP(nn.Module):
    """LayerNorm, a linear layer to `ratio` times the width, GELU, a linear layer back: (..., C) -> (..., C)."""

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, dim * ratio)
        self.fc2 = nn.Linear(dim * ratio, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))
