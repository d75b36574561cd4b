"""SP-Generator: the model prompts itself with the patches of the image that it believes to hold foreground."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.modeling.encoder import EMBEDDING_CHANNELS
from delightsam.modeling.layers import LayerNorm2d

PROMPT_KINDS = ("self", "none")
HIDDEN_CHANNELS = 64


class SelfPatchPrompts(nn.Module):
    """Patch generator (embedding -> patch logits) and prompt encoder (patch logits -> dense prompt).

    Args:
        threshold: probability from which a patch counts as foreground.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"The prompt threshold is a probability between 0 and 1; found {threshold}.")
        self.threshold_logit = math.log(threshold / (1 - threshold))
        self.generator = nn.Sequential(
            nn.Conv2d(EMBEDDING_CHANNELS, HIDDEN_CHANNELS, 2, stride=2),
            LayerNorm2d(HIDDEN_CHANNELS),
            nn.GELU(),
            nn.Conv2d(HIDDEN_CHANNELS, 1, 1),
        )
        # A fresh prompt is zero. With a weight of 1 the norm's output would be larger than a pretrained encoder's whole
        # embedding (LiteMedSAM's: up to 0.6), and the decoder would see the prompt only.
        norm = LayerNorm2d(EMBEDDING_CHANNELS)
        nn.init.zeros_(norm.weight)
        self.encoder = nn.Sequential(nn.Conv2d(1, EMBEDDING_CHANNELS, 1), norm, nn.GELU())

    def forward(self, embedding: Tensor, patches: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Patch logits and the prompt made of them.

        Args:
            embedding: (B, 256, h, w); h and w even.
            patches: (B, 1, h/2, w/2) zeros and ones to make the prompt of instead.

        Returns:
            Patch logits (B, 1, h/2, w/2) and the dense prompt (B, 256, h, w). No gradient flows from the prompt to the
            logits: the patch loss alone teaches the generator.

        Raises:
            ValueError: patches of another shape.
        """
        logits = self.generator(embedding)
        if patches is None:
            patches = logits.detach() >= self.threshold_logit
        elif patches.shape != logits.shape:
            raise ValueError(f"Patches are expected as {tuple(logits.shape)}; found {tuple(patches.shape)}.")
        return logits, self.encode(patches.to(embedding.dtype))

    def encode(self, patches: Tensor) -> Tensor:
        """Dense prompt (B, 256, h, w) of a patch map (B, 1, h/2, w/2) of zeros and ones.

        The encoder works at every position by itself, so it can run before the enlargement instead of after it.
        """
        return F.interpolate(self.encoder(patches), scale_factor=2, mode="nearest")
