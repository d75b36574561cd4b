"""Three heads on a frozen image encoder: SAM's own mask decoder, convolutions, or a linear layer. Only the head learns.

Hu, Xu, Shi, "How to Efficiently Adapt Large Segmentation Model (SAM) to Medical Images", arXiv 2306.13731, 2023, who call the first
AutoSAM (not the one of `autosam`).

As in the paper: the encoder is frozen; the first head is SAM's mask decoder with its own tokens and no prompt token; the
second is two layers of 1x1, then stages of two 3x3 convolutions and a transposed convolution that halves the width and doubles the side,
then a 3x3 and a 1x1 layer.
Other than in the paper: one foreground mask takes the place of a mask for each class, so SAM's single mask token is kept as it is,
and the default prompt learns with the first head. The paper's linear head has hidden layers; here it is one 1x1 layer, which
is what linear probing means elsewhere. The loss is that of the bench.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from baselines.sam.prompt_free.adaptation import Adaptation


class DecoderHead(Adaptation):
    """SAM's mask decoder and default prompt learn."""

    def __init__(self, modalities: Sequence[str], **settings: Any) -> None:
        super().__init__(modalities, **settings)
        self.learn([self.start.no_mask, *self.start.decoder.parameters()])


class _NewHead(Adaptation):
    """A head that replaces the mask decoder."""

    head: nn.Module

    def __init__(self, modalities: Sequence[str], **settings: Any) -> None:
        super().__init__(modalities, **settings)
        self.start.drop_decoder()

    def draw(self, pixels: Tensor) -> Tensor:
        return self.head(self.embed(pixels))


class ConvolutionalHead(_NewHead):
    """Convolutions draw the mask, at four times the embedding's side.

    Args:
        widths: channels of the stages; one stage less than there are widths.
        **settings: see Adaptation.

    Raises:
        ValueError: fewer than two widths; and see Adaptation.
    """

    def __init__(self, modalities: Sequence[str], widths: Sequence[int] = (256, 128, 64), **settings: Any) -> None:
        if len(widths) < 2:
            raise ValueError(f"widths={list(widths)}: expected two or more.")
        super().__init__(modalities, **settings)
        first, last = widths[0], widths[-1]
        self.head = nn.Sequential(
            *(nn.Conv2d(self.start.width, first, 1), nn.ReLU(), nn.Conv2d(first, first, 1), nn.ReLU()),
            *(_stage(a, b) for a, b in pairwise(widths)),
            *(nn.Conv2d(last, last, 3, padding=1), nn.ReLU(), nn.Conv2d(last, 1, 1)),
        )


def _stage(width: int, out: int) -> nn.Module:
    """(B, width, h, w) -> (B, out, 2h, 2w)."""
    return nn.Sequential(
        *(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()),
        nn.ConvTranspose2d(width, out, 2, stride=2),
    )


class LinearProbe(_NewHead):
    """One linear layer on the embedding of each place."""

    def __init__(self, modalities: Sequence[str], **settings: Any) -> None:
        super().__init__(modalities, **settings)
        self.head = nn.Conv2d(self.start.width, 1, 1)
