"""Small random members of the SAM family, saved as their real files are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from support.copies import copies_of
from torch import Tensor, nn

from baselines.sam.method import SamMethod, build
from baselines.sam.preprocessing import Preprocessing

SIDE = 64
MODALITIES = ["dermoscopy", "xray"]
PROMPT = {"hidden_size": 32, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
DECODER = {
    "hidden_size": 32,
    "mlp_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 16,
    "iou_head_depth": 2,
}
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 16,
    "window_size": 3,
    "global_attn_indexes": [1],
    "output_channels": 32,
    "mlp_dim": 32,
    "num_pos_feats": 16,
}
HIERA = {
    "backbone_config": {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 2, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [4],
        "window_positional_embedding_background_size": [4, 4],
    },
    "backbone_channel_list": [64, 32, 16, 8],
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    "fpn_hidden_size": 32,
}


def make(family: str) -> nn.Module:
    """A model of transformers' own class, filled with numbers that say something."""
    import transformers as t

    torch.manual_seed(0)
    config: Any
    if family == "sam2":
        config = t.Sam2Config(vision_config=HIERA, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER)
        model: nn.Module = t.Sam2Model(config)
    elif family == "sam_hq":
        decoder = {**DECODER, "vit_dim": 32}
        config = t.SamHQConfig(vision_config=VIT, prompt_encoder_config=PROMPT, mask_decoder_config=decoder)
        model = t.SamHQModel(config)
    else:
        config = t.SamConfig(vision_config=VIT, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER)
        model = t.SamModel(config)
    for parameter in model.parameters():
        if parameter.dim() > 1 and parameter.std() < 0.1:
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def save(family: str, folder: Path) -> Path:
    make(family).save_pretrained(folder)  # type: ignore[operator]
    return folder


@dataclass
class Batch:
    images: Tensor
    masks: Tensor
    modality: Tensor

    def part(self, index: int) -> Batch:
        one = slice(index, index + 1)
        return Batch(self.images[one], self.masks[one], self.modality[one])


def squares(count: int = 3, height: int = SIDE, width: int = SIDE) -> Batch:
    """Noise with two bright rectangles in each image, of different places and sizes."""
    images = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 0.3
    masks = torch.zeros(count, 1, height, width)
    for i in range(count):
        masks[i, :, 4 + i : height // 2 - 3, 5 : width // 2 + i] = 1
        masks[i, :, height // 2 + 4 : height - 4 - i, width // 2 + 5 : width - 3] = 1
    return Batch((images + 0.6 * masks).clamp(0, 1), masks, torch.arange(count) % 2)


def method(family: str, weights: object, prompt: str = "oracle box", seed: int = 0, **settings: Any) -> SamMethod:
    """A copy of what `method_anew` made once: its file need not be read again."""
    made = _method(family, str(weights), prompt, seed, tuple(settings.items()))()
    torch.manual_seed(seed)
    return made


@lru_cache(maxsize=16)
def _method(
    family: str, weights: str, prompt: str, seed: int, settings: tuple[tuple[str, Any], ...]
) -> Callable[[], SamMethod]:
    return copies_of(method_anew(family, weights, prompt, seed, **dict(settings)))


def method_anew(family: str, weights: object, prompt: str = "oracle box", seed: int = 0, **settings: Any) -> SamMethod:
    """A method in evaluation mode; the light ones, whose encoders take any size, get small squares to be quick."""
    torch.manual_seed(seed)
    made = build(MODALITIES, prompt, family=family, weights=str(weights), **settings)
    if family in ("lite_medsam", "mobile_sam"):
        own = made.network.preprocessing
        made.network.preprocessing = Preprocessing(
            own.scaling, own.keeps_aspect, SIDE if family == "mobile_sam" else SIDE // 2
        )
    return made.eval()
