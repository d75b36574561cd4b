"""De-LightSAM that does not get the modality of the images it is tested on: it guesses it, then works as ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from delightsam.modeling.preprocessing import normalise
from delightsam.training.method import DeLightSAMMethod, TrainingBatch, TrainingStep
from delightsam.training.stages import Stage


class AutoModalityMethod(DeLightSAMMethod):
    """DeLightSAMMethod with a head on the shared embedding (see delightsam.modeling.modality_guess).

    Training knows the modalities. The head is fitted at its end, by one pass over the training images; until then
    `predict` takes the modality that it is given, from then on it ignores it. An image goes through the encoder twice: once
    without controllers for the guess, once with the controller that was guessed.

    Args:
        modalities: names.
        **settings: as for DeLightSAMMethod.
    """

    def __init__(self, modalities: Sequence[str], **settings: Any) -> None:
        super().__init__(modalities, **settings)
        self.network.enable_guess()

    def stages(self) -> list[Stage]:
        return [*super().stages(), Stage("modality", trainable=(), gradient=False)]

    def training_loss(self, batch: TrainingBatch, step: TrainingStep) -> tuple[Tensor, dict[str, Tensor]]:
        self.network.enable_guess().reset()  # what it knows of another encoder
        return super().training_loss(batch, step)

    def observe(self, batch: TrainingBatch) -> None:
        """Shows the head a batch of training images."""
        embedding = self.network.encode(self._normalised(batch.images), None)
        self.network.enable_guess().observe(embedding, self.numbers[batch.modality])

    def guess_modality(self, images: Tensor) -> Tensor:
        """Indices into `modalities`, (B,) int64, of images (B, 3, S, S) in [0, 1]."""
        numbers = self.network.guess_modality(self._normalised(images))
        return (numbers[:, None] == self.numbers).int().argmax(1)

    def predict(self, images: Tensor, modality: Tensor | Sequence[int]) -> Tensor:
        """Mask logits (B, 1, S, S) of images in [0, 1]; `modality` counts until the head is fitted."""
        if self.network.enable_guess().fitted:
            modality = self.guess_modality(images)
        return super().predict(images, modality)

    def accelerated(self, image_size: int, batch_size: int, dtype: torch.dtype) -> nn.Module | None:
        """Not yet: the image that is guessed goes through the encoder of the model itself."""
        return None

    def _normalised(self, images: Tensor) -> Tensor:
        return normalise(images, self.network.config.preprocessing)
