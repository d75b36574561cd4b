"""The key layout of the authors' checkpoints beside ours (xq141839/De-LightSAM, `ESP_*_best.pth`)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from delightsam.modeling.tiny_vit import DEPTHS

# What their model allocates and never uses: 327,860 parameters. The position code's matrix is a buffer and is used.
UNUSED_KEYS: dict[str, tuple[int, ...]] = {
    # classifier head of TinyViT: 321,640
    "SemiTViT.norm_head.weight": (320,),
    "SemiTViT.norm_head.bias": (320,),
    "SemiTViT.head.weight": (1000, 320),
    "SemiTViT.head.bias": (1000,),
    # point, box and mask prompts of SAM: 6,220
    **{f"prompt_encoder.point_embeddings.{i}.weight": (1, 256) for i in range(4)},
    "prompt_encoder.not_a_point_embed.weight": (1, 256),
    "prompt_encoder.no_mask_embed.weight": (1, 256),
    "prompt_encoder.mask_downscaling.0.weight": (4, 1, 2, 2),
    "prompt_encoder.mask_downscaling.0.bias": (4,),
    "prompt_encoder.mask_downscaling.1.weight": (4,),
    "prompt_encoder.mask_downscaling.1.bias": (4,),
    "prompt_encoder.mask_downscaling.3.weight": (16, 4, 2, 2),
    "prompt_encoder.mask_downscaling.3.bias": (16,),
    "prompt_encoder.mask_downscaling.4.weight": (16,),
    "prompt_encoder.mask_downscaling.4.bias": (16,),
    "prompt_encoder.mask_downscaling.6.weight": (256, 16, 1, 1),
    "prompt_encoder.mask_downscaling.6.bias": (256,),
}

# Our name (regular expression) -> theirs, tried in order on the whole name.
_BLOCK = r"encoder\.backbone\.stages\.(\d)\.blocks\.(\d)\."
_RULES: list[tuple[str, str]] = [
    (r"encoder\.backbone\.stem\.first\.", "SemiTViT.patch_embed.seq.0."),
    (r"encoder\.backbone\.stem\.second\.", "SemiTViT.patch_embed.seq.2."),
    (_BLOCK + r"attention\.offset_bias", r"SemiTViT.layers.\1.blocks.\2.attn.attention_biases"),
    (_BLOCK + r"attention\.project\.", r"SemiTViT.layers.\1.blocks.\2.attn.proj."),
    (_BLOCK + r"attention\.", r"SemiTViT.layers.\1.blocks.\2.attn."),
    (_BLOCK + r"local\.", r"SemiTViT.layers.\1.blocks.\2.local_conv."),
    (_BLOCK + r"mlp\.", r"SemiTViT.layers.\1.blocks.\2.mlp."),
    (_BLOCK + r"expand\.", r"SemiTViT.layers.\1.blocks.\2.conv1."),
    (_BLOCK + r"depthwise\.", r"SemiTViT.layers.\1.blocks.\2.conv2."),
    (_BLOCK + r"project\.", r"SemiTViT.layers.\1.blocks.\2.conv3."),
    (r"encoder\.backbone\.stages\.(\d)\.downsample\.expand\.", r"SemiTViT.layers.\1.downsample.conv1."),
    (r"encoder\.backbone\.stages\.(\d)\.downsample\.depthwise\.", r"SemiTViT.layers.\1.downsample.conv2."),
    (r"encoder\.backbone\.stages\.(\d)\.downsample\.project\.", r"SemiTViT.layers.\1.downsample.conv3."),
    (r"encoder\.neck\.", "SemiTViT.neck."),
    (r"prompts\.generator\.", "patch_decoder."),
    (r"prompts\.encoder\.", "dense_prompter."),
    (r"decoder\.queries$", "mask_query.weight"),
    (r"decoder\.frequencies$", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"decoder\.upscale\.", "mask_decoder.output_upscaling."),
    (r"decoder\.hypernetworks\.shared\.", "mask_decoder.output_hypernetworks_mlps.0."),
    (r"decoder\.final_norm\.", "mask_decoder.transformer.norm_final_attn."),
    (r"decoder\.final_attention\.", "mask_decoder.transformer.final_attn_token_to_image."),
    (r"decoder\.layers\.(\d)\.self_attention\.", r"mask_decoder.transformer.layers.\1.self_attn."),
    (
        r"decoder\.layers\.(\d)\.queries_to_image\.",
        r"mask_decoder.transformer.layers.\1.cross_attn_token_to_image.",
    ),
    (
        r"decoder\.layers\.(\d)\.image_to_queries\.",
        r"mask_decoder.transformer.layers.\1.cross_attn_image_to_token.",
    ),
    (r"decoder\.layers\.(\d)\.fc1\.", r"mask_decoder.transformer.layers.\1.mlp.lin1."),
    (r"decoder\.layers\.(\d)\.fc2\.", r"mask_decoder.transformer.layers.\1.mlp.lin2."),
    (r"decoder\.layers\.", "mask_decoder.transformer.layers."),
]
# What their layout has no place for, and modalities that were there from the beginning do not need.
_OWN_ONLY = ("decoder.added_queries.", "guess.")
# The names inside a decoder attention.
_PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "project": "out_proj"}
_CONTROLLER_TENSORS = {
    "key_token": "attn.deep_QKV_embeddings_med",
    "token_bias": "attn.med_attention_biases",
    "expert": "med_dah",
}


def authors_key_map(own_names: Iterable[str], modality: int) -> dict[str, str]:
    """The authors' name -> our name, of every tensor that the authors' checkpoint of one modality holds and uses.

    Args:
        own_names: the keys of the state dict of a DeLightSAM with `stem="standard"`, full controllers with tied tokens
            and one shared hypernetwork.
        modality: number of the controller that is meant.
    """
    names: dict[str, str] = {}
    for own in own_names:
        if own.startswith("controllers."):
            if own.startswith(f"controllers.{modality}."):
                names[_controller_name(own)] = own
        elif not own.startswith(_OWN_ONLY):
            names[shared_name(own)] = own
    return names


def shared_name(own: str) -> str:
    """The authors' name of one of our tensors outside the controllers."""
    for pattern, replacement in _RULES:
        match = re.match(pattern, own)
        if match:
            rest = own[match.end() :]
            if own.startswith("decoder."):
                rest = re.sub(r"^(query|key|value|project)\.", lambda m: _PROJECTIONS[m[1]] + ".", rest)
            else:
                rest = re.sub(r"^conv\.", "c.", re.sub(r"^norm\.", "bn.", rest)) if _is_conv_norm(own) else rest
            return match.expand(replacement) + rest
    raise AssertionError(f"No rule for {own}: the model does not have the published architecture.")


def _is_conv_norm(own: str) -> bool:
    pattern = r"\.(first|second|expand|depthwise|local)\.|\.project\.(conv|norm)\."
    return re.search(pattern, own) is not None


def _controller_name(own: str) -> str:
    _, _, _, index, tensor, *rest = own.split(".")
    stage, block = 1, int(index)
    while block >= DEPTHS[stage]:
        block -= DEPTHS[stage]
        stage += 1
    return ".".join([f"SemiTViT.layers.{stage}.blocks.{block}", _CONTROLLER_TENSORS[tensor], *rest])
