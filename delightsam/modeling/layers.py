"""Small parts that several rooms of the network share."""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.modeling import kernels
from delightsam.modeling.remembered import Remembered

STRIPE_ROWS = 16  # of a chain's output: at 1024 px the widest map of a stripe then has 5 MB, the whole map 67 MB


class Linear(nn.Linear):
    """nn.Linear, with the faster kernel where that is possible."""

    def forward(self, x: Tensor) -> Tensor:
        if kernels.fast_path(x):
            return kernels.linear(x, self.weight, self.bias)
        return super().forward(x)


class ConvNorm(nn.Module):
    """Convolution without bias, then BatchNorm; `fuse()` makes one biased convolution of the two.

    Input (B, in, H, W), output (B, out, H', W').
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)
        self._remembered = Remembered[tuple[Tensor, Tensor]]()

    def forward(self, x: Tensor) -> Tensor:
        if not kernels.learns_on_cpu(x):
            return self.norm(self.conv(x))
        if isinstance(self.norm, nn.BatchNorm2d) and self.norm.training:
            return self.norm(kernels.learning_convolution(x, self.conv, self.conv.weight, self.conv.bias))
        # The norm is a factor and an offset: for the few weights, not for the map and again for its gradient.
        return kernels.learning_convolution(x, self.conv, *self._as_one(self.conv.weight.dtype))

    def folded(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight and bias, without gradient, of the one convolution that equals both in eval mode."""
        tensors = [*self.conv.parameters(), *self.norm.parameters(), *self.norm.buffers()]
        return self._remembered(dtype, tensors, lambda: self._fold(dtype))

    @torch.no_grad()
    def _fold(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        # In float64: the product of two rounded factors would cost digits that the parity tests see.
        weight, bias = self._as_one(torch.float64)
        return weight.to(dtype), bias.to(dtype)

    def _as_one(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that equals both where the norm's statistics are fixed, computed in `dtype`."""
        norm, weight = self.norm, self.conv.weight.to(dtype)
        if not isinstance(norm, nn.BatchNorm2d):
            assert self.conv.bias is not None
            return weight, self.conv.bias.to(dtype)
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.to(dtype) / torch.sqrt(norm.running_var.to(dtype) + norm.eps)
        return weight * scale[:, None, None, None], norm.bias.to(dtype) - norm.running_mean.to(dtype) * scale

    @torch.no_grad()
    def fuse(self) -> None:
        """Folds the norm's running statistics into the convolution, in place. For inference only."""
        weight, bias = self._fold(self.conv.weight.dtype)
        self.conv.weight.copy_(weight)
        self.conv.bias = nn.Parameter(bias, requires_grad=False)
        self.norm = nn.Identity()


class ConvChain(nn.Module):
    """Base of modules that are ConvNorms one after the other, with GELU between them.

    In eval mode without gradients one stripe of rows of one image passes all of them before the next one starts: the maps
    in between are never whole, and stay in the processor's cache instead of going to memory and back.
    """

    def layers(self) -> Sequence[ConvNorm]:
        raise NotImplementedError

    def finish(self, out: Tensor, x: Tensor) -> Tensor:
        """What follows the last layer; `out` may be changed in place where no gradient is recorded."""
        return out

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        if not self.training and kernels.fast_path(x):
            return self._in_stripes(x)
        first, *others = self.layers()
        out = first(x)
        for layer in others:
            out = layer(F.gelu(out))
        return self.finish(out, x)

    def _in_stripes(self, x: Tensor) -> Tensor:
        x = x.to(kernels.compute_dtype(x))
        folded = [layer.folded(x.dtype) for layer in self.layers()]
        convs = [layer.conv for layer in self.layers()]
        sides = [x.shape[2:]]
        for conv in convs:
            sides.append(torch.Size((side - 1) // conv.stride[0] + 1 for side in sides[-1]))
        shape = (len(x), convs[-1].out_channels, *sides[-1])
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        heights = [side[0] for side in sides]
        for image, result in zip(x.split(1), out.split(1), strict=True):
            for top in range(0, heights[-1], STRIPE_ROWS):
                bottom = min(top + STRIPE_ROWS, heights[-1])
                stripe = _stripe(image, convs, folded, heights, top, bottom)
                result[:, :, top:bottom] = self.finish(stripe, image[:, :, top:bottom])
        return out


def _stripe(
    x: Tensor,
    convs: Sequence[nn.Conv2d],
    folded: Sequence[tuple[Tensor, Tensor]],
    heights: Sequence[int],
    top: int,
    bottom: int,
) -> Tensor:
    """Rows [top, bottom) of the last convolution's output for one image; `heights` of its input and of every output."""
    # From the last convolution back to the first: the rows that it reads, and how many of them lie outside its input.
    outside: list[tuple[int, int]] = []
    for conv, height in zip(reversed(convs), reversed(heights[:-1]), strict=True):
        top = top * conv.stride[0] - conv.padding[0]  # type: ignore[operator]
        bottom = (bottom - 1) * conv.stride[0] - conv.padding[0] + conv.kernel_size[0]  # type: ignore[operator]
        outside.insert(0, (max(0, -top), max(0, bottom - height)))
        top, bottom = max(0, top), min(bottom, height)
    x = x[:, :, top:bottom]
    for conv, (weight, bias), (above, below) in zip(convs, folded, outside, strict=True):
        if above or below:
            x = F.pad(x, (0, 0, above, below))
        columns = int(conv.padding[1])
        x = kernels.convolution(x, weight, bias, conv.stride[0], (0, columns), conv.groups, gelu=conv is not convs[-1])
    return x


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
        self.fc1 = Linear(dim, dim * ratio)
        self.fc2 = Linear(dim * ratio, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))

    @torch.no_grad()
    def fuse(self) -> None:
        """Moves the LayerNorm's weight and bias into fc1, in place: MLPs of the same tokens can then share the rest of it."""
        norm, fc1 = self.norm, self.fc1
        if not norm.elementwise_affine:
            return
        weight = fc1.weight.double()
        fc1.bias.copy_(fc1.bias.double() + weight @ norm.bias.double())
        fc1.weight.copy_(weight * norm.weight.double())
        self.norm = nn.LayerNorm(list(norm.normalized_shape), norm.eps, elementwise_affine=False)


def add_mlps(x: Tensor, mlps: Sequence[TokenMLP], out: Tensor) -> None:
    """Writes x plus every MLP of x, for tokens (N, C), as one MLP with all their hidden channels would. No gradients.

    After `TokenMLP.fuse` they share one normalisation.
    """
    for part, target in zip(x.split(kernels.tokens_at_once()), out.split(kernels.tokens_at_once()), strict=True):
        total, normed = part, part
        for i, mlp in enumerate(mlps):
            if i == 0 or mlp.norm.elementwise_affine:
                normed = mlp.norm(part)
            hidden = kernels.linear(normed, mlp.fc1.weight, mlp.fc1.bias, gelu=True)
            total = kernels.linear(hidden, mlp.fc2.weight, mlp.fc2.bias, add=total)
        target.copy_(total)
