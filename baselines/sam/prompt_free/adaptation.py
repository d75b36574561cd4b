"""What all prompt-free adaptations share: the pretrained start, the loss, and that only what was chosen learns.

The loss is the same for all (BCE + Dice, as De-LightSAM's), whatever a paper weighs its terms with; so are optimiser,
schedule, augmentation and image size, which the harness sets. What differs between two rows is the adaptation alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.losses import LOSSES
from baselines.names import unknown
from baselines.sam.prompt_free.start import read_start
from baselines.stages import Stage


class Adaptation(nn.Module):
    """A pretrained SAM of which a part learns, or to which something that learns was added.

    The pretrained part stays in evaluation mode: its batch statistics are part of what it was trained to be.

    Args:
        modalities: names of the modalities; unused, every method is given them.
        family: "lite_medsam", "mobile_sam", "sam" or "medsam".
        weights: a file (lite_medsam, mobile_sam), or a folder or hub name (the others).
        loss: `bce_dice`, `bce` or `dice`.

    Raises:
        ValueError: an unknown name, or weights that can't be had or don't fit; the message says what to do.
    """

    def __init__(self, modalities: Sequence[str], family: str, weights: str, loss: str = "bce_dice") -> None:
        super().__init__()
        if loss not in LOSSES:
            raise unknown("loss", loss, LOSSES)
        self.loss = LOSSES[loss]
        self.start = read_start(family, weights)
        self.start.requires_grad_(False)

    def learn(self, parameters: Iterable[nn.Parameter]) -> None:
        """Has these parameters learn, but for those that no mask depends on."""
        idle = set(self.start.idle_parameters())
        for parameter in parameters:
            parameter.requires_grad_(parameter not in idle)

    def embed(self, pixels: Tensor) -> Tensor:
        """The image embedding (B, C, h, w); nothing is recorded for gradients where the encoder does not learn."""
        learns = any(parameter.requires_grad for parameter in self.start.encoder.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            return self.start.embed(pixels)

    def draw(self, pixels: Tensor) -> Tensor:
        """Logits (B, 1, h, w) of the square of pixels (B, 3, side, side)."""
        return self.draw_embedding(self.embed(pixels))

    def draw_embedding(self, embedding: Tensor) -> Tensor:
        """Logits (B, 1, h, w) of an image embedding (B, C, h, w): by SAM's mask decoder and its default prompt."""
        return self.start.draw(embedding + self.start.no_mask[:, None, None])

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], (B,) int64, unused -> logits (B, 1, H, W)."""
        height, width = images.shape[-2:]
        frame = self.start.frame(height, width)
        return frame.logits(self.draw(frame.pixels(images)), height, width)

    def batch_logits(self, batch: Any) -> Tensor:
        """Logits (B, 1, S, S) of a training batch."""
        return self.predict(batch.images, batch.modality)

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch with `images` (B, 3, S, S) and `masks` (B, 1, S, S)."""
        return self.loss(self.batch_logits(batch), batch.masks)

    def losses_by_image(self, batch: Any, step: Any) -> tuple[Tensor, Tensor]:
        """The loss of `training_loss`, and each image's own (B,)."""
        logits = self.batch_logits(batch)
        own = [self.loss(one, mask)[0] for one, mask in zip(logits.split(1), batch.masks.split(1), strict=True)]
        return self.loss(logits, batch.masks)[0], torch.stack(own)

    def train(self, mode: bool = True) -> Adaptation:
        super().train(mode)
        self.start.eval()
        return self

    def stages(self) -> list[Stage]:
        return [Stage("train")]

    def deployed_parameters(self) -> list[nn.Parameter]:
        """Those that a mask depends on."""
        idle = set(self.start.idle_parameters())
        return [parameter for parameter in self.parameters() if parameter not in idle]
