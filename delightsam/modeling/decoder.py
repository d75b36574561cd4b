"""QM-Decoder: one learned query per modality reads the image and turns into the kernel that draws the mask.

The two-way transformer and the upscaling are those of SAM's mask decoder (Kirillov et al., ICCV 2023).
"""

# torch types the call of a module as Any.
from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.modeling import kernels
from delightsam.modeling.controllers import Group, Mixture
from delightsam.modeling.encoder import EMBEDDING_CHANNELS
from delightsam.modeling.layers import LayerNorm2d, Linear
from delightsam.modeling.remembered import Remembered

HYPERNETWORKS = ("per_modality", "shared")
HEADS = 8
MLP_CHANNELS = 2048
ATTENTION_DOWNSAMPLE = 2
DEPTH = 2
MASK_CHANNELS = 32
SHARED = "shared"


class Attention(nn.Module):
    """Multi-head attention of width `inner` between tokens of width 256: q (B, N, 256), k and v (B, M, 256)."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.query = Linear(EMBEDDING_CHANNELS, inner)
        self.key = Linear(EMBEDDING_CHANNELS, inner)
        self.value = Linear(EMBEDDING_CHANNELS, inner)
        self.project = Linear(inner, EMBEDDING_CHANNELS)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (_split_heads(layer(x)) for layer, x in ((self.query, q), (self.key, k), (self.value, v)))
        return self.project(kernels.attention(q, k, v).transpose(1, 2).flatten(2))


def _split_heads(x: Tensor) -> Tensor:
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


class TwoWayBlock(nn.Module):
    """Queries attend to themselves and to the image, pass an MLP, and the image attends to the queries.

    `first`: the first block's self-attention has no position code and no residual, as in SAM.
    """

    def __init__(self, first: bool) -> None:
        super().__init__()
        inner = EMBEDDING_CHANNELS // ATTENTION_DOWNSAMPLE
        self.first = first
        self.self_attention = Attention(EMBEDDING_CHANNELS)
        self.norm1 = nn.LayerNorm(EMBEDDING_CHANNELS)
        self.queries_to_image = Attention(inner)
        self.norm2 = nn.LayerNorm(EMBEDDING_CHANNELS)
        self.fc1 = Linear(EMBEDDING_CHANNELS, MLP_CHANNELS)
        self.fc2 = Linear(MLP_CHANNELS, EMBEDDING_CHANNELS)
        self.norm3 = nn.LayerNorm(EMBEDDING_CHANNELS)
        self.image_to_queries = Attention(inner)
        self.norm4 = nn.LayerNorm(EMBEDDING_CHANNELS)

    def forward(self, queries: Tensor, image: Tensor, code: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """queries and their code (B, Q, 256), image (B, N, 256), position (1, N, 256) -> new queries and image."""
        if self.first:
            queries = self.self_attention(queries, queries, queries)
        else:
            coded = queries + code
            queries = queries + self.self_attention(coded, coded, queries)
        queries = self.norm1(queries)
        placed = image + position
        queries = self.norm2(queries + self.queries_to_image(queries + code, placed, image))
        queries = self.norm3(queries + self.fc2(F.relu(self.fc1(queries))))
        image = self.norm4(image + self.image_to_queries(placed, queries + code, queries))
        return queries, image


class Hypernetwork(nn.Module):
    """Three linear layers with ReLU between: a query (B, 256) -> the kernel (B, 32) of its mask."""

    def __init__(self) -> None:
        super().__init__()
        widths = [EMBEDDING_CHANNELS] * 3 + [MASK_CHANNELS]
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))

    def forward(self, query: Tensor) -> Tensor:
        for layer in list(self.layers)[:-1]:
            query = F.relu(layer(query))
        return self.layers[-1](query)


class Decoder(nn.Module):
    """Prompted embedding to mask logits at four times the embedding's resolution.

    Args:
        modalities: the modality numbers.
        queries: rows of the query table: modality k owns row k, or all own row 0 where it is the only one. All rows take
            part in the self-attention, also those of no modality (the published weights have seven rows for six).
        hypernetworks: "per_modality" (the paper's figure) or "shared" (the published weights).
        added: the modalities whose query is a parameter of its own, because they came when the others were trained. Their
            images see the table's rows and their own; the images of the others see the table alone, as before.
    """

    frequencies: Tensor

    def __init__(
        self, modalities: Sequence[int], queries: int, hypernetworks: str = "per_modality", added: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, EMBEDDING_CHANNELS))
        self.added_queries = nn.ParameterDict({str(k): torch.randn(EMBEDDING_CHANNELS) for k in added})
        self.register_buffer("frequencies", torch.randn(2, EMBEDDING_CHANNELS // 2))
        self._remembered = Remembered[Tensor]()
        self.layers = nn.ModuleList(TwoWayBlock(first=i == 0) for i in range(DEPTH))
        self.final_attention = Attention(EMBEDDING_CHANNELS // ATTENTION_DOWNSAMPLE)
        self.final_norm = nn.LayerNorm(EMBEDDING_CHANNELS)
        self.upscale = nn.Sequential(
            nn.ConvTranspose2d(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS // 4, 2, stride=2),
            LayerNorm2d(EMBEDDING_CHANNELS // 4),
            nn.GELU(),
            nn.ConvTranspose2d(EMBEDDING_CHANNELS // 4, MASK_CHANNELS, 2, stride=2),
            nn.GELU(),
        )
        names = [SHARED] if hypernetworks == "shared" else [str(k) for k in modalities]
        self.hypernetworks = nn.ModuleDict({name: Hypernetwork() for name in names})

    def forward(self, embedding: Tensor, groups: Sequence[Group] | Mixture) -> Tensor:
        """Mask logits (B, 1, 4h, 4w) of the prompted embedding (B, 256, h, w), sorted by modality as `groups` say.

        Raises:
            ValueError: a mixture for a decoder with added modalities, whose images see other queries.
        """
        if isinstance(groups, Mixture):
            if self.added_queries:
                raise ValueError("A model with added modalities takes their numbers as a list.")
            return self._draw(embedding, groups)
        # Runs of images that see equally many queries.
        runs = [list(run) for _, run in groupby(groups, key=lambda g: str(g.modality) in self.added_queries)]
        if len(runs) == 1:
            return self._draw(embedding, groups)
        return torch.cat([self._draw(embedding[run[0].start : run[-1].stop], _from_zero(run)) for run in runs])

    def _draw(self, embedding: Tensor, groups: Sequence[Group] | Mixture) -> Tensor:
        batch, _, height, width = embedding.shape
        image = embedding.flatten(2).transpose(1, 2)
        position = self.position(height, width).to(image.dtype)
        code = self._rows(groups, batch).to(image.dtype)
        queries = code
        for layer in self.layers:
            queries, image = layer(queries, image, code, position)
        queries = self.final_norm(queries + self.final_attention(queries + code, image + position, image))

        upscaled = self.upscale(image.transpose(1, 2).unflatten(2, (height, width)))
        mask_kernels = self._kernels(queries, groups)
        # Over pixels with channels last the dot product reads memory in order.
        masks = upscaled.permute(0, 2, 3, 1).flatten(1, 2) @ mask_kernels[:, :, None]
        return masks.view(batch, 1, upscaled.shape[2], upscaled.shape[3])

    def query(self, modality: int) -> Tensor:
        """The query (256,) that a modality owns."""
        key = str(modality)
        return self.added_queries[key] if key in self.added_queries else self.queries[self.own_row(modality)]

    def _rows(self, groups: Sequence[Group] | Mixture, batch: int) -> Tensor:
        """The queries (B, Q, 256) that each image sees; an added modality's own is the last."""
        table = self.queries.expand(batch, -1, -1)
        if isinstance(groups, Mixture) or str(groups[0].modality) not in self.added_queries:
            return table
        own = [self.added_queries[str(g.modality)].expand(g.stop - g.start, 1, -1) for g in groups]
        return torch.cat((table, torch.cat(own)), dim=1)

    def own_row(self, modality: int) -> int:
        if str(modality) in self.added_queries:
            return -1
        return modality if len(self.queries) > 1 else 0

    def _kernels(self, queries: Tensor, groups: Sequence[Group] | Mixture) -> Tensor:
        """Kernels (B, 32): each image's own query through its hypernetwork; the other queries' are never computed."""
        if isinstance(groups, Mixture):
            return self._mixed_kernels(queries, groups)
        own = torch.cat([queries[g.start : g.stop, self.own_row(g.modality)] for g in groups])
        if SHARED in self.hypernetworks:
            return self.hypernetworks[SHARED](own)
        return torch.cat([self.hypernetworks[str(g.modality)](own[g.start : g.stop]) for g in groups])

    def _mixed_kernels(self, queries: Tensor, mixture: Mixture) -> Tensor:
        rows = torch.stack([queries[:, self.own_row(k)] for k in mixture.modalities], dim=1)
        own = mixture.share.to(rows.dtype)[:, None] @ rows
        if SHARED in self.hypernetworks:
            return self.hypernetworks[SHARED](own[:, 0])
        networks = [self.hypernetworks[str(k)].layers for k in mixture.modalities]
        for number, layers in enumerate(zip(*networks, strict=True)):
            own = mixture.linear(F.relu(own) if number else own, layers)
        return own[:, 0]

    def position(self, height: int, width: int) -> Tensor:
        """SAM's random-Fourier position code of a grid: (1, height * width, 256) in row-major order."""
        return self._remembered((height, width), [self.frequencies], lambda: self._code(height, width))

    def _code(self, height: int, width: int) -> Tensor:
        # In float32 whatever the autocast: the code multiplies by up to 2 pi times a large random frequency.
        with torch.autocast(self.frequencies.device.type, enabled=False):
            frequencies = self.frequencies.float()
            y = (torch.arange(height, device=frequencies.device) + 0.5) / height * 2 - 1
            x = (torch.arange(width, device=frequencies.device) + 0.5) / width * 2 - 1
            grid = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)
            angle = 2 * math.pi * (grid @ frequencies)
            return torch.cat((angle.sin(), angle.cos()), dim=-1).flatten(0, 1)[None]


def _from_zero(run: Sequence[Group]) -> list[Group]:
    """The groups of a part of a batch, counted from the part's first image."""
    return [Group(g.modality, g.start - run[0].start, g.stop - run[0].start) for g in run]
