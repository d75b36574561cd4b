"""Low-rank adaptation of linear layers.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv 2106.09685: W + (alpha / r) B A, with B
zero at the start. Applied to SAM's image encoder by Zhang and Liu, "Customized Segment Anything Model for Medical Image
Segmentation" (SAMed), arXiv 2304.13785.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """A learned update of a weight matrix (out, in), of rank r, zero at the start; alpha equals r, so its factor is 1."""

    def __init__(self, out_features: int, in_features: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, in_features))
        self.up = nn.Parameter(torch.zeros(out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def add_lora(layers: Iterable[nn.Linear], rank: int) -> list[nn.Parameter]:
    """Gives each layer a low-rank update in place, also where a caller reads `layer.weight`; returns what learns."""
    learned: list[nn.Parameter] = []
    for layer in layers:
        update = LowRank(layer.out_features, layer.in_features, min(rank, layer.in_features))
        parametrize.register_parametrization(layer, "weight", update)
        learned += update.parameters()
    return learned


class QueryValueLowRank(nn.Module):
    """As `LowRank`, of the rows of a joint projection that make queries and values; keys stay as they are.

    Args:
        width: of the tokens; the weight is (3 * width, width).
        heads: its rows are ordered by head, of each head the query first; None: all queries, then keys, then values.
    """

    def __init__(self, width: int, rank: int, heads: int | None) -> None:
        super().__init__()
        self.heads = heads
        self.query = LowRank(width, width, rank)
        self.value = LowRank(width, width, rank)

    def forward(self, weight: Tensor) -> Tensor:
        query, value = (part.up @ part.down for part in (self.query, self.value))
        update = torch.stack((query, torch.zeros_like(query), value))  # (3, width, width)
        if self.heads is not None:
            update = update.unflatten(1, (self.heads, -1)).transpose(0, 1).flatten(0, 1)
        return weight + update.flatten(0, 1)


def add_query_value_lora(layer: nn.Linear, rank: int, heads: int | None) -> list[nn.Parameter]:
    """Gives a joint projection a `QueryValueLowRank`, in place; returns what learns."""
    update = QueryValueLowRank(layer.in_features, min(rank, layer.in_features), heads)
    parametrize.register_parametrization(layer, "weight", update)
    return list(update.parameters())


def attention_projections(encoder: nn.Module) -> list[nn.Linear]:
    """The joint projection to queries, keys and values, and the output's, of every attention of an image encoder."""
    found = []
    for name, module in encoder.named_modules():
        parent, _, leaf = f".{name}".rpartition(".")
        if (
            isinstance(module, nn.Linear)
            and leaf in ("qkv", "proj", "project")
            and parent.endswith(("attn", "attention"))
        ):
            found.append(module)
    return found
