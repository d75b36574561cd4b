"""AutoSAM: a second encoder of the same image makes the prompt; SAM is frozen as a whole.

Shaharabany et al., "AutoSAM: Adapting SAM to Medical Images by Overloading the Prompt Encoder", arXiv 2306.06370, 2023.

As in the paper: a convolutional encoder and a decoder with skip connections turn a smaller copy of the image into a map of the
embedding's channels and size, bounded by tanh, which takes the place of the dense prompt; there are no points and no boxes.
Only this network learns, by gradients through SAM's frozen mask decoder; BCE + Dice.
Other than in the paper: an encoder with a feature pyramid takes the place of Harmonic DenseNet-85 with a U-Net's decoder. It is a
ResNet-18 from scratch, because ImageNet's weights would be a second start; give `guide_weights` to have one, as the paper has. Its
map is added to SAM's default prompt and zero at the start, so that it begins as the pretrained model. The paper's small decoder that shows the prompt
as a mask is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.networks.encoder_weights import check_encoder, input_statistics, load_encoder
from baselines.sam.prompt_free.adaptation import Adaptation
from delightsam.modeling.preprocessing import PRESETS

# The pyramid's map has a quarter of the image's side, and the encoder wants sides of a multiple of 32.
_STRIDE, _MULTIPLE = 4, 32


class Guide(nn.Module):
    """Pixels to a dense prompt, zero at the start.

    Args:
        width: channels of the prompt.
        encoder_name: of segmentation_models_pytorch, or one of timm's with `tu-` before it.
        weights: null, or the path of a local file with the encoder's weights.
        scaling: how pixels were normalised for SAM, one of delightsam.modeling.preprocessing.PRESETS. Where it is known how the
            weights expect them (timm's), they are brought to that.
    """

    factor: Tensor | None
    shift: Tensor | None

    def __init__(self, width: int, encoder_name: str, weights: str | None, scaling: str) -> None:
        super().__init__()
        self.network = smp.FPN(encoder_name, encoder_weights=None, classes=width, upsampling=1)
        factor = shift = None
        if weights is not None:
            load_encoder(self.network.encoder, encoder_name, weights)
            factor, shift = _between(scaling, encoder_name)
        self.register_buffer("factor", factor, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        last: Any = self.network.segmentation_head[0]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, pixels: Tensor, height: int, width: int) -> Tensor:
        """(B, 3, side, side) -> (B, C, height, width), between -1 and 1."""
        size = [-(-_STRIDE * length // _MULTIPLE) * _MULTIPLE for length in (height, width)]
        if list(pixels.shape[-2:]) != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
        if self.factor is not None:
            pixels = pixels * self.factor + self.shift
        prompt = self.network(pixels)
        if prompt.shape[-2:] != (height, width):
            prompt = F.interpolate(prompt, (height, width), mode="bilinear", align_corners=False)
        return torch.tanh(prompt)


def _between(scaling: str, encoder_name: str) -> tuple[Tensor | None, Tensor | None]:
    """Factor and shift (3, 1, 1) from pixels normalised by `scaling` to what an encoder's weights expect; None: not known."""
    wanted = input_statistics(encoder_name)
    if wanted is None:
        return None, None
    # An image by its own range lies in [0, 1], as the statistics do.
    given = PRESETS[scaling] or ((0.0,) * 3, (255.0,) * 3)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in wanted)
    own_mean, own_std = (torch.tensor(values).view(3, 1, 1) / 255 for values in given)
    return own_std / std, (own_mean - mean) / std


class AutoSam(Adaptation):
    """AutoSAM with a learned prompt encoder.

    Args:
        guide: name of the prompt encoder's own encoder, one of segmentation_models_pytorch, or of timm with `tu-` before it.
        guide_weights: null, or the path of a local file with its weights.
        **settings: see Adaptation.

    Raises:
        ValueError: an unknown encoder, weights that don't fit; and see Adaptation.
    """

    def __init__(
        self, modalities: Sequence[str], guide: str = "resnet18", guide_weights: str | None = None, **settings: Any
    ) -> None:
        super().__init__(modalities, **settings)
        check_encoder(guide, "guide")
        self.guide = Guide(self.start.width, guide, guide_weights, self.start.frame(1, 1).scaling)

    def draw(self, pixels: Tensor) -> Tensor:
        embedding = self.embed(pixels)
        prompt = self.guide(pixels, embedding.shape[2], embedding.shape[3])
        return self.start.draw(embedding + (self.start.no_mask[:, None, None] + prompt))
