"""A tiny method that offers all that algorithms may ask for, and batches to train it on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.losses import bce_dice

MODALITIES = ["dermoscopy", "xray"]


@dataclass
class Batch:
    """As harness.data.batches.loader.Batch."""

    images: Tensor
    masks: Tensor
    modality: Tensor
    domain: Tensor
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def modality_list(self) -> list[int]:
        return self.modality.tolist()

    @property
    def domain_list(self) -> list[int]:
        return self.domain.tolist()

    def part(self, positions: Sequence[int], on_device: Tensor) -> Batch:
        images, masks, modality, domain = (
            tensor[on_device] for tensor in (self.images, self.masks, self.modality, self.domain)
        )
        return Batch(images, masks, modality, domain, [self.keys[position] for position in positions])

    def chunks(self, size: int) -> list[Batch]:
        rows = [slice(start, start + size) for start in range(0, len(self), size)]
        return [Batch(self.images[r], self.masks[r], self.modality[r], self.domain[r], self.keys[r]) for r in rows]


@dataclass(frozen=True)
class Step:
    """As harness.methods.contract.Step."""

    index: int = 0
    total: int = 10
    epoch: int = 0
    stage: str = "train"


class ToyMethod(nn.Module):
    """Two convolutions of the encoder, each with its batch norm, and a last one; about 400 parameters.

    `prior` is a parameter that never trains.
    """

    def __init__(self, modalities: Sequence[str], width: int = 4) -> None:
        super().__init__()
        self.modalities = list(modalities)
        self.early = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.late = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.last = nn.Conv2d(2 * width, 1, 1)
        self.prior = nn.Parameter(torch.tensor(0.1), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.late(self.early(images))) + self.prior
        return logits

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        return self(images)  # type: ignore[no-any-return]

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return bce_dice(self(batch.images), batch.masks)

    def feature_layers(self) -> list[tuple[nn.Module, int]]:
        return [(self.early, 1), (self.late, 1)]

    def head(self) -> nn.Module:
        return self.last

    def losses_by_image(self, batch: Any, step: Any) -> tuple[Tensor, Tensor]:
        logits = self(batch.images)
        loss, _ = bce_dice(logits, batch.masks)
        each = [bce_dice(logits[i : i + 1], batch.masks[i : i + 1])[0] for i in range(len(batch.keys))]
        return loss, torch.stack(each)


class NoisyMethod(ToyMethod):
    """Draws random numbers of its own, which tells whether anything else has drawn before."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + (torch.randn(()) if self.training else 0)


class TokenMethod(nn.Module):
    """Patches of 4 x 4 pixels as tokens (B, N, C): features whose channels come last. Offers features alone."""

    def __init__(self, modalities: Sequence[str], width: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width)) for _ in range(2))
        self.last = nn.Linear(width, 16)

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        x = self.patches(F.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate"))
        rows, columns = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        x = self.last(x).transpose(1, 2).unflatten(2, (rows, columns))
        return F.pixel_shuffle(x, 4)[..., :height, :width]

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return bce_dice(self.predict(batch.images, batch.modality), batch.masks)

    def feature_layers(self) -> list[tuple[nn.Module, int]]:
        return [(block, -1) for block in self.blocks]


class PlainMethod(nn.Module):
    """The bare contract: predict and training_loss."""

    def __init__(self, modalities: Sequence[str]) -> None:
        super().__init__()
        self.last = nn.Conv2d(3, 1, 3, padding=1)

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        return self.last(images)  # type: ignore[no-any-return]

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return bce_dice(self.last(batch.images), batch.masks)


def make(
    algorithm: Callable[..., Any], seed: int = 0, method: Callable[..., nn.Module] = ToyMethod, **settings: Any
) -> Any:
    """`algorithm` around a new `method` whose weights come from `seed`, as the harness builds it, in training mode."""
    torch.manual_seed(seed)
    return algorithm(modalities=MODALITIES, method=partial(method), **settings).train()


def disks(
    count: int = 6,
    size: tuple[int, int] = (32, 32),
    *,
    modality: Sequence[int] | None = None,
    domain: Sequence[int] | None = None,
    seed: int = 0,
) -> Batch:
    """Bright disks on dark noise, another brightness and tint in each domain.

    By default two modalities alternate, each of two domains (numbers 0 and 1, 2 and 3).
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    modality = [i % 2 for i in range(count)] if modality is None else modality
    domain = [2 * m + (i // 2) % 2 for i, m in enumerate(modality)] if domain is None else domain
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = torch.rand(count, 2, 1, 1, generator=generator) * 0.5 + 0.25
    distance = ((y - centres[:, 0] * height) ** 2 + (x - centres[:, 1] * width) ** 2).sqrt()
    masks = (distance < min(height, width) / 4)[:, None].float()
    tint = torch.rand(max(domain) + 1, 3, 1, 1, generator=generator)[list(domain)]
    noise = torch.rand(count, 3, height, width, generator=generator)
    images = (0.2 + 0.4 * masks + 0.2 * tint + 0.15 * noise).clamp(0, 1)
    return Batch(images, masks, torch.tensor(modality), torch.tensor(domain), [f"image{i}" for i in range(count)])


def loss_of(method: Any, batch: Any, seed: int = 0, step: Any = None) -> Tensor:
    """The training loss, with the randomness of `seed`."""
    torch.manual_seed(seed)
    loss: Tensor = method.training_loss(batch, Step() if step is None else step)[0]
    return loss


def gradients(method: nn.Module) -> dict[str, Tensor]:
    """A copy of each gradient there is, by the name of its parameter."""
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
