"""Window attention of TinyViT, with the key and value tokens of the modality controllers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.controllers import Route


class WindowAttention(nn.Module):
    """Multi-head attention inside windows of `window` x `window` tokens.

    A learned bias for each head and each absolute offset (|dy|, |dx|) is added to the scores. A map that does not divide
    into windows is padded below and to the right with zeros *before* the LayerNorm, and the padded tokens act as keys:
    published weights expect that.

    Args:
        dim: channels C. heads: attention heads; each has C / heads channels. window: tokens per window side.
    """

    offset_index: Tensor
    cached_bias: Tensor | None

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.offset_bias = nn.Parameter(torch.zeros(heads, window * window))
        position = torch.arange(window)
        distance = (position[:, None] - position[None, :]).abs()
        index = distance[:, None, :, None] * window + distance[None, :, None, :]
        self.register_buffer("offset_index", index.reshape(window**2, window**2), persistent=False)
        self.register_buffer("cached_bias", None, persistent=False)

    def forward(self, x: Tensor, routes: Sequence[Route] = ()) -> Tensor:
        """Attends inside windows.

        Args:
            x: (B, H, W, C) tokens, sorted by modality as `routes` say.
            routes: the controllers' parts, together covering all images; empty without controllers.

        Returns:
            (B, H, W, C), to be added to `x`.
        """
        batch, height, width, dim = x.shape
        window = self.window
        # Norm and projections see real tokens only. A padded token is the same everywhere: zeros, whose LayerNorm is
        # its bias. At 128 px (8 x 8 tokens in a 14 x 14 window) this spares two thirds of the work.
        qkv = self.qkv(self.norm(x))
        below, right = -height % window, -width % window
        if below or right:
            fill = F.linear(self.norm.bias, self.qkv.weight, self.qkv.bias).to(qkv.dtype)
            if right:
                qkv = torch.cat((qkv, fill.expand(batch, height, right, -1)), dim=2)
            if below:
                qkv = torch.cat((qkv, fill.expand(batch, below, width + right, -1)), dim=1)
        rows, columns = (height + below) // window, (width + right) // window

        qkv = qkv.view(batch, rows, window, columns, window, self.heads, 3, dim // self.heads)
        qkv = qkv.permute(6, 0, 1, 3, 5, 2, 4, 7)  # (3, B, rows, columns, heads, window, window, d)
        q, k, v = qkv.reshape(3, batch, rows * columns, self.heads, window * window, -1).unbind(0)
        out = self._attend(q, k, v, routes)

        out = out.view(batch, rows, columns, self.heads, window, window, -1).permute(0, 1, 4, 2, 5, 3, 6)
        out = out.reshape(batch, rows * window, columns * window, dim)
        if below or right:
            out = out[:, :height, :width]
        return self.project(out)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, routes: Sequence[Route]) -> Tensor:
        """q, k, v (B, windows, heads, N, d) -> (B, windows, heads, N, d)."""
        bias = self.cached_bias if self.cached_bias is not None else self.offset_bias[:, self.offset_index]
        if not routes or routes[0].controller.tokens() is None:
            return _attention(q, k, v, bias.to(q.dtype))
        if len(routes) == 1:
            return _attend_with_token(q, k, v, bias, routes[0])
        parts = [_attend_with_token(q[r.start : r.stop], k[r.start : r.stop], v[r.start : r.stop], bias, r) for r in routes]
        return torch.cat(parts)


def _attend_with_token(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, route: Route) -> Tensor:
    tokens = route.controller.tokens()
    assert tokens is not None
    key, value, token_bias = tokens
    shape = (*k.shape[:3], 1, k.shape[-1])
    k = torch.cat((k, key.to(k.dtype)[:, None].expand(shape)), dim=3)
    v = torch.cat((v, value.to(v.dtype)[:, None].expand(shape)), dim=3)
    bias = torch.cat((bias, token_bias.expand(*bias.shape[:2], 1)), dim=2)
    return _attention(q, k, v, bias.to(q.dtype))


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Scaled dot-product attention over all windows of all images at once; bias (heads, N, M)."""
    out = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), attn_mask=bias[None])
    return out.view_as(q)
