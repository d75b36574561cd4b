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
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from baselines.sam.prompt_free.adaptation import Adaptation
from baselines.stages import Stage
from delightsam.training.frozen_encoder import FrozenEmbeddings


class FrozenEncoder(Adaptation):
    """What the heads share: the embedding of an image that comes again is computed once.

    Embeddings are kept and rounded as those of De-LightSAM's stage `decode`, which finds them where it starts from the same
    weights, as a head finds De-LightSAM's.

    Args:
        views: number of fixed augmented versions of each image that a head learns on; None: augmented anew each time, and
            embedded anew.
        **settings: see Adaptation.

    Raises:
        ValueError: see Adaptation.
    """

    def __init__(self, modalities: Sequence[str], views: int | None = None, **settings: Any) -> None:
        super().__init__(modalities, **settings)
        self.views = views
        self._embeddings = FrozenEmbeddings()

    def use_cache(self, folder: str | Path) -> None:
        """Keeps embeddings in `folder`, which other trainings may share."""
        self._embeddings.use(folder)

    def stages(self) -> list[Stage]:
        return [Stage("train", views=self.views)]

    def prepare(self, batch: Any, step: Any) -> Tensor:
        """The embedding of a batch, which its loss starts from."""
        return self._embedding(batch.images, getattr(batch, "image_names", None))

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        return self._logits(self._embedding(images, None), *images.shape[-2:])

    def batch_logits(self, batch: Any) -> Tensor:
        known = getattr(batch, "prepared", None)
        return self._logits(self.prepare(batch, None) if known is None else known, *batch.images.shape[-2:])

    def _logits(self, embedding: Tensor, height: int, width: int) -> Tensor:
        return self.start.frame(height, width).logits(self.draw_embedding(embedding), height, width)

    def _embedding(self, images: Tensor, names: Sequence[str] | None) -> Tensor:
        height, width = images.shape[-2:]
        frame = self.start.frame(height, width)
        pixels, words = frame.pixels(images), frame.words(height, width)
        embedding = self._embeddings(
            self.start.encoder, self.embed, pixels, names, preprocessing=words, come_again=not self.training
        )
        # As the cache rounds: a mask does not tell whether there was one.
        return embedding.half().float()


class DecoderHead(FrozenEncoder):
    """SAM's mask decoder and default prompt learn."""

    def __init__(self, modalities: Sequence[str], **settings: Any) -> None:
        super().__init__(modalities, **settings)
        self.learn([self.start.no_mask, *self.start.decoder.parameters()])


class _NewHead(FrozenEncoder):
    """A head that replaces the mask decoder."""

    head: nn.Module

    def __init__(self, modalities: Sequence[str], **settings: Any) -> None:
        super().__init__(modalities, **settings)
        self.start.drop_decoder()

    def draw_embedding(self, embedding: Tensor) -> Tensor:
        return self.head(embedding)


class ConvolutionalHead(_NewHead):
    """Convolutions draw the mask, at four times the embedding's side.

    Args:
        widths: channels of the stages; one stage less than there are widths.
        **settings: see FrozenEncoder.

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
