"""Which tokens of a map lie in which window, for maps that do not divide into windows, too."""

# torch has no types for autograd functions.
from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class WindowRows(NamedTuple):
    """Rows that sort the H * W tokens of a map by windows of N tokens, and back.

    Attributes:
        gather: (windows, N or N + 1) rows of the map's tokens, behind which lie a padded one and, where windows end with a
            controller's token, that one.
        scatter: (H * W,) rows of the windows' N tokens: where each token of the map is found again.
        scatter_back: as `scatter`, of windows that end with a controller's token.
        padded: rows of these windows that hold the padded token; (0,) where the map divides into windows.
    """

    gather: Tensor
    scatter: Tensor
    scatter_back: Tensor
    padded: Tensor


@lru_cache(maxsize=64)
def window_rows(height: int, width: int, window: int, has_tokens: bool, device: torch.device) -> WindowRows:
    """The rows for a map of this size, on a device.

    Args:
        has_tokens: a window ends with a controller's token.
    """
    count, tokens = height * width, window**2
    down, right = -height % window, -width % window
    with torch.inference_mode(False):  # kept, and used in training
        padded = F.pad(torch.arange(count).view(height, width), (0, right, 0, down), value=count)
        inside = padded.unflatten(1, (-1, window)).unflatten(0, (-1, window)).transpose(1, 2).reshape(-1, tokens)
        scatter = torch.empty(count + 1, dtype=torch.int64)
        scatter[inside.flatten()] = torch.arange(inside.numel())
        scatter = scatter[:count]
        if has_tokens:
            inside = F.pad(inside, (0, 1), value=count + 1)
        back, at = scatter + has_tokens * (scatter // tokens), (inside.flatten() == count).nonzero().flatten()
        return WindowRows(*(rows.to(device) for rows in (inside, scatter, back, at)))


class IntoWindows(torch.autograd.Function):
    """(B, H * W + 1 or 2, C) tokens and those behind them -> (B, windows * (N or N + 1), C).

    PyTorch's own gradient of a selection adds up in an order of its own on a GPU. Here every token of the map lies in one
    window, so its gradient is a selection, too; only those of the tokens behind the map are sums.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, rows: WindowRows) -> Tensor:
        ctx.rows, ctx.behind = rows, tokens.shape[1] - len(rows.scatter)
        return tokens.index_select(1, rows.gather.flatten())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows: WindowRows = ctx.rows
        parts = [gradient.index_select(1, rows.scatter_back)]
        parts.append(gradient.index_select(1, rows.padded).sum(1, keepdim=True))
        if ctx.behind == 2:
            parts.append(gradient.unflatten(1, rows.gather.shape)[:, :, -1].sum(1, keepdim=True))
        return torch.cat(parts, dim=1), None


class OutOfWindows(torch.autograd.Function):
    """(B, windows * N, C) -> (B, H * W, C): the reverse; what padded tokens gave is dropped."""

    @staticmethod
    def forward(ctx: Any, windows: Tensor, rows: WindowRows) -> Tensor:
        ctx.rows, ctx.count = rows, windows.shape[1]
        return windows.index_select(1, rows.scatter)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        batch, _, channels = gradient.shape
        return gradient.new_zeros(batch, ctx.count, channels).index_copy_(1, ctx.rows.scatter, gradient), None
