"""TinyViT-5M as the SAM family uses it: a convolutional stem and stage, then three stages of window attention.

Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", ECCV 2022, in the form that MobileSAM
(Zhang et al. 2023, arXiv 2306.14289) gave it: the last stage keeps the resolution, so that the map ends at 1/16.
"""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.modeling import kernels
from delightsam.modeling.attention import WindowAttention
from delightsam.modeling.controllers import (
    BlockController,
    Controllers,
    MixedControllers,
    MixedRoute,
    Route,
    Routes,
    apply_experts,
)
from delightsam.modeling.layers import ConvChain, ConvNorm, TokenMLP, add_mlps
from delightsam.modeling.recomputation import recompute

WIDTHS = (64, 128, 160, 320)
DEPTHS = (2, 2, 6, 2)
HEADS = (0, 4, 5, 10)  # stage 0 has no attention
WINDOWS = (0, 7, 14, 7)
Run = Callable[..., Tensor]
STEMS = {"standard": 4, "pixel": 1}  # name -> pixels per token side at the stem's end


class Stem(ConvChain):
    """Two convolutions with GELU between: (B, 3, S, S) -> (B, 64, S/4, S/4), or (B, 64, S, S) for "pixel"."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        kernel, stride = (3, 2) if kind == "standard" else (1, 1)
        self.first = ConvNorm(3, WIDTHS[0] // 2, kernel, stride)
        self.second = ConvNorm(WIDTHS[0] // 2, WIDTHS[0], kernel, stride)

    def layers(self) -> Sequence[ConvNorm]:
        return self.first, self.second


class InvertedResidual(ConvChain):
    """MBConv: 1x1 to four times the width, 3x3 depthwise, 1x1 back, GELU after each, the input added before the last."""

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        hidden = dim * ratio
        self.expand = ConvNorm(dim, hidden)
        self.depthwise = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.project = ConvNorm(hidden, dim)

    def layers(self) -> Sequence[ConvNorm]:
        return self.expand, self.depthwise, self.project

    def finish(self, out: Tensor, x: Tensor) -> Tensor:
        return F.gelu(x + out)


class Downsample(ConvChain):
    """To the width of the next stage: 1x1, 3x3 depthwise with the stride, 1x1, GELU between."""

    def __init__(self, dim: int, out: int, stride: int) -> None:
        super().__init__()
        self.expand = ConvNorm(dim, out)
        self.depthwise = ConvNorm(out, out, 3, stride, groups=out)
        self.project = ConvNorm(out, out)

    def layers(self) -> Sequence[ConvNorm]:
        return self.expand, self.depthwise, self.project


class AttentionBlock(nn.Module):
    """Window attention, 3x3 depthwise convolution, MLP; the experts of the controllers run beside the MLP."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.attention = WindowAttention(dim, heads, window)
        self.local = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = TokenMLP(dim)

    def forward(self, x: Tensor, routes: Routes = ()) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        if kernels.fast_path(x) and not isinstance(routes, MixedRoute):
            return self._in_pieces(x, routes)
        x = x + self.attention(x, routes)
        x = self.local(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        expert = apply_experts(x, routes)
        x = x + self.mlp(x)
        return x if expert is None else x + expert

    def _in_pieces(self, x: Tensor, routes: Sequence[Route]) -> Tensor:
        """One image after the other, of each some rows of windows, then some tokens: pieces stay in the cache."""
        owners: list[BlockController | None] = [r.controller for r in routes for _ in range(r.start, r.stop)]
        owners = owners or [None] * len(x)
        window = self.attention.window
        rows = window * max(1, kernels.tokens_at_once() // (x.shape[2] * window))
        attended = torch.empty_like(x)
        for image, result, owner in zip(x.split(1), attended.split(1), owners, strict=True):
            own_route = [] if owner is None else [Route(owner, 0, 1)]
            for part, target in zip(image.split(rows, 1), result.split(rows, 1), strict=True):
                torch.add(part, self.attention(part, own_route), out=target)
        x = self.local(attended.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        for image, result, owner in zip(x, attended, owners, strict=True):
            mlps = [self.mlp] if owner is None or owner.expert is None else [self.mlp, owner.expert]
            add_mlps(image.flatten(0, 1), mlps, out=result.flatten(0, 1))
        return attended


class ConvStage(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(InvertedResidual(WIDTHS[index]) for _ in range(DEPTHS[index]))
        self.downsample = Downsample(WIDTHS[index], WIDTHS[index + 1], stride=2)

    def forward(self, x: Tensor, run: Run) -> Tensor:
        """(B, C, H, W) -> (B, C', H/2, W/2); `run` calls the blocks."""
        for block in (*self.blocks, self.downsample):
            x = run(block, x)
        return x


class AttentionStage(nn.Module):
    """Blocks of one width; a last convolution leads to the next stage's width, at stride 2 or, into stage 3, at 1."""

    def __init__(self, index: int) -> None:
        super().__init__()
        blocks = range(DEPTHS[index])
        self.blocks = nn.ModuleList(AttentionBlock(WIDTHS[index], HEADS[index], WINDOWS[index]) for _ in blocks)
        last = index == len(WIDTHS) - 1
        self.downsample = (
            None if last else Downsample(WIDTHS[index], WIDTHS[index + 1], stride=1 if index == len(WIDTHS) - 2 else 2)
        )

    def forward(self, x: Tensor, routes: Sequence[Routes], run: Run) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W'); `routes` hold one list per block; `run` calls the blocks."""
        tokens = x.permute(0, 2, 3, 1)
        for block, block_routes in zip(self.blocks, routes, strict=True):
            tokens = run(block, tokens, block_routes)
        x = tokens.permute(0, 3, 1, 2)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """The shared backbone.

    Args:
        stem: "standard" (two 3x3 convolutions of stride 2) or "pixel" (two 1x1 convolutions without stride, as in
            LiteMedSAM: an image of S/4 gives the token grid that S gives with the standard stem).

    Set `checkpoint` to have training keep the inputs of the blocks only (see `recompute`).
    """

    def __init__(self, stem: str = "standard") -> None:
        super().__init__()
        self.checkpoint = False
        self.stem = Stem(stem)
        self.stages = nn.ModuleList([ConvStage(0), *(AttentionStage(i) for i in range(1, len(WIDTHS)))])

    @staticmethod
    def attention_blocks() -> list[tuple[int, int]]:
        """(width, heads) of every attention block in order: what a controller must fit."""
        return [(WIDTHS[i], HEADS[i]) for i in range(1, len(WIDTHS)) for _ in range(DEPTHS[i])]

    def forward(self, images: Tensor, controllers: Controllers = ()) -> list[Tensor]:
        """The maps after the stem and after each stage.

        Args:
            images: (B, 3, S, S) float, normalised, sorted by modality as the groups say.
            controllers: the controllers in use with the images they work on, or all of them with a mixture; empty: the shared
                part alone.

        Returns:
            Five maps (B, C, H, W): stem 64 at 1/4 of the image side, then 128 at 1/8, 160 at 1/16, 320 and 320 at 1/16
            ("pixel": 1/1, 1/2, 1/4, 1/4, 1/4).
        """
        run = recompute if self.checkpoint else _run
        x = self._early(self.stem, images)
        maps = [x]
        starts = [sum(DEPTHS[1:i]) for i in range(1, len(DEPTHS) + 1)]
        for stage in self.stages:
            if isinstance(stage, ConvStage):
                x = self._early(stage, x, run)
            else:
                start, stop = list(pairwise(starts))[len(maps) - 2]
                x = stage(x, [_routes(controllers, block) for block in range(start, stop)], run)
            maps.append(x)
        return maps

    @staticmethod
    def _early(module: nn.Module, x: Tensor, *others: object) -> Tensor:
        """`module(x, *others)` for a part before the first controller: where it is frozen nothing learns up to there."""
        learns = x.requires_grad or any(parameter.requires_grad for parameter in module.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            return module(x, *others)


def _run(module: nn.Module, *args: object) -> Tensor:
    return module(*args)


def _routes(controllers: Controllers, block: int) -> Routes:
    if isinstance(controllers, MixedControllers):
        return controllers.block(block)
    return [Route(c.blocks[block], g.start, g.stop) for c, g in controllers]  # type: ignore[arg-type]
