"""Images as each member of the family wants them, and its masks back at the image's size."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from delightsam.modeling.preprocessing import normalise


@dataclass(frozen=True)
class Preprocessing:
    """From images in [0, 1] to a network's square of pixels.

    Attributes:
        scaling: of delightsam.modeling.preprocessing: "sam" (mean and standard deviation) or "minmax" (each image by its own range).
        keeps_aspect: the longest side becomes the square's, the rest (right, below) is zeros; False: stretched.
        side: of the square, in pixels.
    """

    scaling: str
    keeps_aspect: bool
    side: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of an image inside the square."""
        if not self.keeps_aspect:
            return self.side, self.side
        longest = max(height, width)
        return max(1, round(height * self.side / longest)), max(1, round(width * self.side / longest))

    def pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> (B, 3, side, side)."""
        height, width = self.size(*images.shape[-2:])
        if images.shape[-2:] != (height, width):
            images = F.interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=True)
        return F.pad(normalise(images, self.scaling), (0, self.side - width, 0, self.side - height))

    def words(self, height: int, width: int) -> str:
        """What `pixels` does to images of this size: the same words, the same pixels."""
        if (height, width) == (self.side, self.side):
            return self.scaling
        return f"{self.scaling}, {height} x {width} to {self.side}, {'padded' if self.keeps_aspect else 'stretched'}"

    def coordinates(self, places: Tensor, height: int, width: int) -> Tensor:
        """Places (N, 2 or 4) x, y, ... of pixels of an image (the first is 0) -> the same places in the square."""
        inner_height, inner_width = self.size(height, width)
        factor = places.new_tensor([inner_width / width, inner_height / height]).repeat(places.shape[1] // 2)
        return (places + 0.5) * factor - 0.5

    def logits(self, logits: Tensor, height: int, width: int) -> Tensor:
        """A network's map (B, 1, h, w) of the whole square -> (B, 1, H, W) of the image, bilinear."""
        if logits.shape[-2:] != (self.side, self.side):
            logits = F.interpolate(logits, (self.side, self.side), mode="bilinear", align_corners=False)
        inner_height, inner_width = self.size(height, width)
        logits = logits[..., :inner_height, :inner_width]
        if (inner_height, inner_width) == (height, width):
            return logits
        return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
