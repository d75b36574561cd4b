"""Modality controllers: the only part of the encoder that belongs to one modality.

A controller holds, for each attention block of the encoder, a learned key and a learned value token that every window
also attends to, and an expert MLP that runs beside the block's own. An image meets the controller of its modality only.
"""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.modeling.layers import TokenMLP
from delightsam.modeling.transfer import sent

CONTROLLER_KINDS = ("full", "tokens", "expert", "none")

# exp(-4) beside 49 or 196 keys of similar size: a fresh token takes less than 0.04 % of the attention, yet the softmax
# still lets a gradient through (minus infinity, the exact zero effect, would not).
INITIAL_TOKEN_BIAS = -4.0


class BlockController(nn.Module):
    """What one controller adds to one attention block of width `dim`.

    Args:
        dim: channels of the block's tokens.
        heads: attention heads; the token has `dim / heads` values per head.
        kind: "full" (tokens and expert), "tokens" or "expert".
        tied: the key token and the value token are one parameter, as in the published weights.
    """

    def __init__(self, dim: int, heads: int, kind: str = "full", tied: bool = True) -> None:
        super().__init__()
        self.key_token: nn.Parameter | None = None
        self.value_token: nn.Parameter | None = None
        self.token_bias: nn.Parameter | None = None
        self.expert: TokenMLP | None = None
        if kind in ("full", "tokens"):
            self.key_token = nn.Parameter(torch.randn(heads, 1, dim // heads) * 0.02)
            if not tied:
                self.value_token = nn.Parameter(torch.zeros(heads, 1, dim // heads))
            self.token_bias = nn.Parameter(torch.full((1,), INITIAL_TOKEN_BIAS))
        if kind in ("full", "expert"):
            self.expert = TokenMLP(dim)

    def initialise(self) -> None:
        """Sets the expert to zero effect: a new controller leaves the shared encoder as it was."""
        if self.expert is not None:
            nn.init.zeros_(self.expert.fc2.weight)
            nn.init.zeros_(self.expert.fc2.bias)

    def tokens(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Key token (heads, 1, d), value token (heads, 1, d) and their bias (1,), or None where the kind has no tokens."""
        if self.key_token is None or self.token_bias is None:
            return None
        return (
            self.key_token,
            self.key_token if self.value_token is None else self.value_token,
            self.token_bias,
        )


class Controller(nn.Module):
    """The controller of one modality: a BlockController for every attention block of the encoder, in order."""

    def __init__(self, blocks: Sequence[tuple[int, int]], kind: str = "full", tied: bool = True) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BlockController(dim, heads, kind, tied) for dim, heads in blocks)


@dataclass(frozen=True)
class Group:
    """A run of images of one modality in a batch that is sorted by modality: images [start, stop)."""

    modality: int
    start: int
    stop: int


@dataclass(frozen=True)
class Route:
    """The part of a controller that works on the images [start, stop) in one block."""

    controller: BlockController
    start: int
    stop: int


@dataclass(frozen=True)
class Mixture:
    """Which modality each image of a batch has, known to the device alone: a GPU is not asked for it, and replays the same
    operations for other modalities.

    Attributes:
        modalities: K numbers.
        share: (B, K) float, 1 for an image's own modality, else 0.
    """

    modalities: tuple[int, ...]
    share: Tensor

    @classmethod
    def of_numbers(cls, modality: Tensor, known: Sequence[int]) -> Mixture:
        """Of modality numbers (B,), all of them among `known`."""
        row = _row(tuple(known), modality.device)
        return cls(tuple(known), (modality[:, None] == row).float())

    def own(self, tensors: Sequence[Tensor]) -> Tensor:
        """Each image's own (B, ...) of K tensors of one shape. As a product: its gradient adds up in one order."""
        stacked = torch.stack(list(tensors))
        if stacked.ndim == 2:  # vectors, whose digits autocast would cut
            with torch.autocast(stacked.device.type, enabled=False):
                return self.share.to(stacked.dtype) @ stacked
        return (self.share.to(stacked.dtype) @ stacked.flatten(1)).unflatten(1, stacked.shape[1:])

    def linear(self, x: Tensor, layers: Sequence[nn.Linear]) -> Tensor:
        """Each image's tokens (B, N, in) through its own of K layers: (B, N, out)."""
        weight, bias = self.own([layer.weight for layer in layers]), self.own([layer.bias for layer in layers])
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


@lru_cache(maxsize=64)
def _row(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept, and used in training
        return torch.tensor(numbers, device=device)


@dataclass(frozen=True)
class MixedRoute:
    """The parts of all controllers that work in one block, and which of them each image meets."""

    controllers: Sequence[BlockController]
    mixture: Mixture


Routes = Sequence[Route] | MixedRoute


@dataclass(frozen=True)
class MixedControllers:
    """All controllers, and which of them each image meets."""

    controllers: Sequence[Controller]
    mixture: Mixture

    def block(self, number: int) -> MixedRoute:
        return MixedRoute([one.blocks[number] for one in self.controllers], self.mixture)  # type: ignore[misc]


Controllers = Sequence[tuple[Controller, Group]] | MixedControllers


def group_by_modality(modality: Sequence[int]) -> tuple[list[int], list[Group]]:
    """The order that sorts a batch by modality (stable), and the groups of the sorted batch.

    Example: [2, 0, 2] -> order [1, 0, 2], groups (0: image 0), (2: images 1 and 2).
    """
    order = sorted(range(len(modality)), key=lambda i: modality[i])
    groups: list[Group] = []
    for position, index in enumerate(order):
        if groups and groups[-1].modality == modality[index]:
            groups[-1] = Group(modality[index], groups[-1].start, position + 1)
        else:
            groups.append(Group(modality[index], position, position + 1))
    return order, groups


def as_list(modality: Tensor | Sequence[int]) -> list[int]:
    """Modality numbers for Python; of a tensor on a GPU the program waits for them."""
    return [int(k) for k in (modality.tolist() if isinstance(modality, Tensor) else modality)]


def taken(batch: Tensor, order: list[int]) -> Tensor:
    """The items of a batch in the order given."""
    return batch if order == sorted(order) else batch.index_select(0, sent(torch.tensor(order), batch.device))


def put_back(batch: Tensor, order: list[int]) -> Tensor:
    """Undoes `taken`."""
    if order == sorted(order):
        return batch
    back = sorted(range(len(order)), key=order.__getitem__)
    return batch.index_select(0, sent(torch.tensor(back), batch.device))


def apply_experts(x: Tensor, routes: Routes) -> Tensor | None:
    """Runs each image's tokens (B, H, W, C) through the expert of its modality; None where no route has one."""
    if isinstance(routes, MixedRoute):
        experts = [controller.expert for controller in routes.controllers if controller.expert is not None]
        return _mixed_experts(x, experts, routes.mixture) if experts else None
    if not routes or routes[0].controller.expert is None:
        return None
    if len(routes) == 1:
        return routes[0].controller.expert(x)
    parts = []
    for route, part in zip(routes, x.split([route.stop - route.start for route in routes]), strict=True):
        assert route.controller.expert is not None
        parts.append(route.controller.expert(part))
    return torch.cat(parts)


def _mixed_experts(x: Tensor, experts: Sequence[TokenMLP], mixture: Mixture) -> Tensor:
    norms = [expert.norm for expert in experts]
    tokens = F.layer_norm(x.flatten(1, 2), norms[0].normalized_shape, eps=norms[0].eps)
    weight, bias = mixture.own([norm.weight for norm in norms]), mixture.own([norm.bias for norm in norms])
    hidden = mixture.linear(torch.addcmul(bias[:, None], tokens, weight[:, None]), [e.fc1 for e in experts])
    return mixture.linear(F.gelu(hidden), [expert.fc2 for expert in experts]).view_as(x)
