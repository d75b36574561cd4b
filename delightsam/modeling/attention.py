"""Window attention of TinyViT, with the key and value tokens of the modality controllers."""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.modeling import kernels
from delightsam.modeling.controllers import MixedRoute, Route, Routes
from delightsam.modeling.layers import Linear
from delightsam.modeling.remembered import Remembered
from delightsam.modeling.windows import IntoWindows, OutOfWindows, window_rows


class WindowAttention(nn.Module):
    """Multi-head attention inside windows of `window` x `window` tokens.

    A learned bias for each head and each absolute offset (|dy|, |dx|) is added to the scores. Published weights expect
    that a map which does not divide into windows is padded below and to the right with zeros *before* the LayerNorm, and
    that the padded tokens act as keys. Here nothing is padded: all padded tokens of a window have the same key and the
    same value, so they are one key whose bias is the log-sum-exp of theirs. The result is the same; at 128 px (8 x 8
    tokens in windows of 14 x 14) it takes a ninth of the products.

    Args:
        dim: channels C. heads: attention heads; each has C / heads channels. window: tokens per window side.
    """

    offset_index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.norm = nn.LayerNorm(dim)
        self.qkv = Linear(dim, 3 * dim)
        self.project = Linear(dim, dim)
        self.offset_bias = nn.Parameter(torch.zeros(heads, window * window))
        position = torch.arange(window)
        distance = (position[:, None] - position[None, :]).abs()
        # [query row, query column, key row, key column] -> column of offset_bias
        index = distance[:, None, :, None] * window + distance[None, :, None, :]
        self.register_buffer("offset_index", index, persistent=False)
        self._remembered = Remembered[Tensor]()

    def forward(self, x: Tensor, routes: Routes = ()) -> Tensor:
        """Attends inside windows.

        Args:
            x: (B, H, W, C) tokens, sorted by modality as `routes` say.
            routes: the controllers' parts, together covering all images; empty without controllers.

        Returns:
            (B, H, W, C), to be added to `x`.
        """
        if x.is_cuda or isinstance(routes, MixedRoute):
            return self.whole(x, routes)
        _, height, width, _ = x.shape
        qkv = self.qkv(self.norm(x)).unflatten(-1, (self.heads, 3, -1))
        padded = None
        if height % self.window or width % self.window:
            # LayerNorm turns a token of zeros into its bias.
            padded = F.linear(self.norm.bias, self.qkv.weight, self.qkv.bias).to(qkv.dtype).view(self.heads, 3, 1, -1)
        # Split and not sliced: the gradient of a slice is a whole map of zeros.
        down, across, rows = self._spans(height), self._spans(width), []
        for row, (count_y, side_y) in zip(_split(qkv, down, 1), down, strict=True):
            parts = []
            for part, (count_x, side_x) in zip(_split(row, across, 2), across, strict=True):
                windows = part.unflatten(1, (count_y, side_y)).unflatten(3, (count_x, side_x))
                parts.append(self._attend(windows, padded, routes))
            rows.append(parts[0] if len(parts) == 1 else torch.cat(parts, dim=2))
        return self.project(rows[0] if len(rows) == 1 else torch.cat(rows, dim=1))

    def whole(self, x: Tensor, routes: Routes = ()) -> Tensor:
        """As `forward`, with padded tokens: more products, but all windows at once, whatever the controllers. For a GPU."""
        batch, height, width, _ = x.shape
        has_tokens = _have_tokens(routes)
        rows = window_rows(height, width, self.window, has_tokens, x.device)
        qkv = self.qkv(self.norm(x)).flatten(1, 2)
        # LayerNorm turns a token of zeros into its bias.
        behind = [F.linear(self.norm.bias, self.qkv.weight, self.qkv.bias).to(qkv.dtype).expand(batch, 1, -1)]
        bias = self.offset_bias[:, self.offset_index].flatten(3, 4).flatten(1, 2).to(qkv.dtype)[None]
        if has_tokens:
            own, bias = _tokens_and_bias(routes, bias)
            behind.append(own.to(qkv.dtype))
        inside = IntoWindows.apply(torch.cat((qkv, *behind), dim=1), rows)
        tokens = self.window**2
        q, k, v = inside.view(
            batch, -1, tokens + has_tokens, self.heads, 3, inside.shape[2] // self.heads // 3
        ).permute(4, 0, 1, 3, 2, 5)
        found = _attention(q[..., :tokens, :], k, v, bias).transpose(2, 3).flatten(3).flatten(1, 2)
        return self.project(OutOfWindows.apply(found, rows).unflatten(1, (height, width)))

    def _spans(self, length: int) -> list[tuple[int, int]]:
        """(number of windows, real tokens per window) of the whole windows of one side and of the cut-off one."""
        whole, rest = divmod(length, self.window)
        spans = [(whole, self.window)] if whole else []
        return [*spans, (1, rest)] if rest else spans

    def _attend(self, windows: Tensor, padded: Tensor | None, routes: Sequence[Route]) -> Tensor:
        """Attention in windows with equally many real tokens.

        Args:
            windows: (B, rows, h, columns, w, heads, 3, d) queries, keys and values of the real tokens.
            padded: (heads, 3, 1, d) those of a padded token, where the map has any.

        Returns:
            (B, rows * h, columns * w, heads * d).
        """
        batch, rows, h, columns, w = windows.shape[:5]
        q, k, v = windows.permute(6, 0, 1, 3, 5, 2, 4, 7).reshape(3, batch, rows * columns, self.heads, h * w, -1)
        bias = self._bias(h, w).to(q.dtype)
        if padded is not None and (h < self.window or w < self.window):
            k, v = _append(k, padded[:, 1]), _append(v, padded[:, 2])
        tokens = [route.controller.tokens() for route in routes]
        if not tokens or tokens[0] is None:
            out = _attention(q, k, v, bias[None])
        else:
            owned = [(r.start, r.stop, *t) for r, t in zip(routes, tokens, strict=True) if t is not None]
            if torch.is_grad_enabled():
                # Each image's token in one piece, not slices of keys and values: see `forward`.
                k = _append(k, torch.cat([key.expand(b - a, 1, -1, -1, -1) for a, b, key, _, _ in owned]))
                v = _append(v, torch.cat([value.expand(b - a, 1, -1, -1, -1) for a, b, _, value, _ in owned]))
                biases = [_append_bias(bias, token).expand(b - a, -1, -1, -1) for a, b, _, _, token in owned]
                out = _attention(q, k, v, biases[0][:1] if len(owned) == 1 else torch.cat(biases))
            else:
                parts = [
                    _attention(q[a:b], _append(k[a:b], key), _append(v[a:b], value), _append_bias(bias, token))
                    for a, b, key, value, token in owned
                ]
                out = parts[0] if len(parts) == 1 else torch.cat(parts)
        out = out.view(batch, rows, columns, self.heads, h, w, -1).permute(0, 1, 4, 2, 5, 3, 6)
        return out.reshape(batch, rows * h, columns * w, -1)

    def _bias(self, h: int, w: int) -> Tensor:
        """Bias (heads, h * w, h * w) of the real tokens, with one column more for the padded ones where there are any."""
        if torch.is_grad_enabled() and self.offset_bias.requires_grad:
            return self._bias_of_offsets(h, w)
        return self._remembered((h, w), [self.offset_bias], lambda: self._bias_of_offsets(h, w))

    def _bias_of_offsets(self, h: int, w: int) -> Tensor:
        full = self.offset_bias[:, self.offset_index[:h, :w]]  # (heads, h, w, window, window)
        bias = full[..., :h, :w].reshape(self.heads, h * w, h * w)
        if h < self.window or w < self.window:
            beside, below = full[..., :h, w:].flatten(3), full[..., h:, :].flatten(3)
            merged = torch.logsumexp(torch.cat((beside, below), dim=3), dim=3).flatten(1)
            bias = torch.cat((bias, merged[..., None]), dim=2)
        return bias


def _split(x: Tensor, spans: list[tuple[int, int]], dim: int) -> Sequence[Tensor]:
    return x.split([count * side for count, side in spans], dim)


def _have_tokens(routes: Routes) -> bool:
    controllers = routes.controllers if isinstance(routes, MixedRoute) else [route.controller for route in routes]
    return bool(controllers) and controllers[0].tokens() is not None


def _tokens_and_bias(routes: Routes, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's token row (B, 1, 3 * heads * d), and the bias (1, heads, N, M) with its token's (1 or B, heads, N, M + 1)."""
    if isinstance(routes, MixedRoute):
        tokens = [tokens for controller in routes.controllers if (tokens := controller.tokens()) is not None]
        own = routes.mixture.own([_token_row(key, value) for key, value, _ in tokens])
        share = routes.mixture.own([share for _, _, share in tokens]).to(bias.dtype)
        count, (_, heads, rows, _) = len(own), bias.shape
        shares = share[:, :, None, None].expand(count, heads, rows, 1)
        return own[:, None], torch.cat((bias.expand(count, -1, -1, -1), shares), dim=3)
    owned = [(r.stop - r.start, t) for r in routes if (t := r.controller.tokens()) is not None]
    own = torch.cat([_token_row(key, value).expand(count, 1, -1) for count, (key, value, _) in owned])
    biases = [_append_bias(bias[0], share).expand(count, -1, -1, -1) for count, (_, _, share) in owned]
    return own, torch.cat(biases) if len(biases) > 1 else biases[0][:1]


def _token_row(key: Tensor, value: Tensor) -> Tensor:
    """Key and value (heads, 1, d) of a token -> its row (3 * heads * d,), as the layer `qkv` orders it; no query."""
    return torch.stack((torch.zeros_like(key), key, value), dim=1).flatten()


def _append(tokens: Tensor, extra: Tensor) -> Tensor:
    """Puts one more token, (heads, 1, d) or each image's own (B, 1, heads, 1, d), behind those of every window (B, windows, heads, N, d)."""
    return torch.cat((tokens, extra.to(tokens.dtype).expand(*tokens.shape[:3], 1, -1)), dim=3)


def _append_bias(bias: Tensor, token_bias: Tensor) -> Tensor:
    """(heads, N, M) and (1,) -> (1, heads, N, M + 1)."""
    return torch.cat((bias, token_bias.to(bias.dtype).expand(*bias.shape[:2], 1)), dim=2)[None]


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention of q (B, windows, heads, N, d) to k and v (..., M, d) with bias (1 or B, heads, N, M)."""
    if len(bias) == 1:  # the fused kernels take four dimensions
        return kernels.attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), bias).view_as(q)
    return kernels.attention(q, k, v, bias[:, None])
