"""Medical SAM Adapter: small bottlenecks inside a frozen SAM, in its image encoder and in its mask decoder.

Wu et al., "Medical SAM Adapter: Adapting Segment Anything Model for Medical Image Segmentation", arXiv 2304.12620, 2023.

As in the paper: an adapter is a layer down to a quarter of the width, ReLU, and a layer up. Every block of the encoder has two: one
between attention and its residual sum, one beside the MLP, scaled by 0.5. Every block of the mask decoder has three: after the
tokens' attention to the image, after their MLP, and after the residual sum of the image's attention to the tokens. SAM itself
is frozen.
Other than in the paper: there users click or draw boxes, and a hyper-network turns these prompts into weights of the decoder's first
adapter; here nobody prompts, so it is a plain one, and SAM's default prompt learns in the prompts' place. Images are 2D:
no space-depth branch. The layers up are zero at the start, so that it begins as the pretrained model. TinyViT's ten attention
blocks take the place of ViT-H's 32. The loss is that of the bench.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.sam.prompt_free.adaptation import Adaptation


class Bottleneck(nn.Module):
    """A branch of two linear layers with ReLU between, zero at the start: (..., C) -> (..., C)."""

    def __init__(self, width: int, ratio: float, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(width, max(1, round(width * ratio)))
        self.up = nn.Linear(self.down.out_features, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.up(F.relu(self.down(x)))


class Adapter(Bottleneck):
    """A bottleneck and a way around it."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class MedicalSamAdapter(Adaptation):
    """Medical SAM Adapter without prompts.

    Args:
        ratio: width of a bottleneck, relative to the tokens'.
        scale: of the branch beside the MLP.
        **settings: see Adaptation.

    Raises:
        ValueError: a ratio that is not above 0 and at most 1; and see Adaptation.
    """

    def __init__(self, modalities: Sequence[str], ratio: float = 0.25, scale: float = 0.5, **settings: Any) -> None:
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio={ratio}: expected a number above 0, at most 1.")
        super().__init__(modalities, **settings)
        self.start.adapt_encoder(lambda width: Adapter(width, ratio), lambda width: Bottleneck(width, ratio, scale))
        self.start.adapt_decoder(lambda width: Adapter(width, ratio))
        self.learn([self.start.no_mask])
        for module in self.start.modules():
            if isinstance(module, Bottleneck):
                self.learn(module.parameters())
