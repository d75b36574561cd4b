"""Guesses the modality of an image from the shared embedding: for images that come without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from delightsam.modeling.encoder import EMBEDDING_CHANNELS

# Between the pooled covariance (0) and its diagonal (1): images are often fewer than channels.
SHRINKAGE = 0.5
# Of the mean variance, added to every channel's: one that never varies must not count for ever.
RIDGE = 1e-6


class ModalityGuess(nn.Module):
    """Linear discriminant analysis on the mean of each embedding channel.

    It needs no gradient: one look at each training image collects all it uses, and images of a further modality can
    follow later. All modalities are taken as equally likely.

    Args:
        numbers: the modalities' numbers.
    """

    numbers: Tensor  # (K,) int64
    count: Tensor  # (K,) int64, images seen
    total: Tensor  # (K, 256) float64, sum of their features
    products: Tensor  # (256, 256) float64, sum of the features' outer products

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__()
        channels = EMBEDDING_CHANNELS
        self.register_buffer("numbers", torch.tensor(list(numbers)), persistent=False)
        self.register_buffer("count", torch.zeros(len(numbers), dtype=torch.int64))
        self.register_buffer("total", torch.zeros(len(numbers), channels, dtype=torch.float64))
        self.register_buffer("products", torch.zeros(channels, channels, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # A model may turn to bfloat16; sums over many images need their digits.
        kept = dict(self.named_buffers())
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in kept.items():
            self._buffers[name] = buffer.to(getattr(self, name).device)
        return self

    @property
    def fitted(self) -> bool:
        """Whether it has seen any image."""
        return bool(self.count.any())

    def reset(self) -> None:
        """Forgets all images: the encoder has changed."""
        for buffer in (self.count, self.total, self.products):
            buffer.zero_()

    @torch.no_grad()
    def observe(self, embedding: Tensor, numbers: Tensor) -> None:
        """Takes in embeddings (B, 256, h, w) of the shared encoder, and their modalities' numbers (B,) int64."""
        features = _features(embedding)
        rows = (numbers[:, None] == self.numbers).int().argmax(1)
        self.count.index_add_(0, rows, torch.ones_like(rows))
        self.total.index_add_(0, rows, features)
        self.products += features.T @ features

    @torch.no_grad()
    def forward(self, embedding: Tensor) -> Tensor:
        """The likeliest modality's number, (B,) int64, of embeddings (B, 256, h, w) of the shared encoder.

        Raises:
            ValueError: it has seen no image yet.
        """
        if not self.fitted:
            raise ValueError(
                "The modality can't be guessed yet: the head has observed no training image. Give its number."
            )
        seen = self.count > 0
        means = self.total[seen] / self.count[seen, None]
        within = (self.products - self.total[seen].T @ means) / self.count.sum()
        variance = within.diagonal()
        floor = (RIDGE * variance.mean()).clamp(min=RIDGE**2)
        within = (1 - SHRINKAGE) * within + torch.diag(SHRINKAGE * variance + floor)
        weights = torch.linalg.solve(within, means.T)
        scores = _features(embedding) @ weights - 0.5 * (means.T * weights).sum(0)
        return self.numbers[seen][scores.argmax(1)]

    def take(self, other: ModalityGuess) -> None:
        """Copies what a head of fewer modalities has seen."""
        rows = (other.numbers[:, None] == self.numbers).int().argmax(1)
        self.count[rows], self.total[rows] = other.count, other.total
        self.products.copy_(other.products)


def _features(embedding: Tensor) -> Tensor:
    return embedding.float().mean((2, 3)).double()
