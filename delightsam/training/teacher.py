"""The teacher: SAM's ViT image encoder, frozen, with learned key and value tokens and adapters for each modality.

Kirillov et al., "Segment Anything", ICCV 2023 (the encoder, here as timm has it); Xu et al., "De-LightSAM", IEEE TCSVT
2025, arXiv 2407.14153v5 (tokens and adapters); Chen et al., "AdaptFormer", NeurIPS 2022 (an adapter beside the MLP).
"""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.layers.pos_embed import resample_abs_pos_embed_nhwc
from timm.models.vision_transformer_sam import (
    Attention,
    Block,
    VisionTransformerSAM,
    get_decomposed_rel_pos_bias,
    window_partition,
    window_unpartition,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from delightsam.modeling.controllers import BlockController, as_list, group_by_modality, put_back, taken
from delightsam.modeling.encoder import EMBEDDING_CHANNELS
from delightsam.modeling.preprocessing import normalise
from delightsam.weights.weights_files import WeightsError, check_shapes, read_state_dict

PATCH = 16
ADAPTER_WIDTH = 64
PUBLISHED_AT = "https://dl.fbaipublicfiles.com/segment_anything/"


@dataclass(frozen=True)
class TeacherSize:
    """Shape of a SAM ViT: patches of 16 px, MLP ratio 4, relative positions, 256 channels at its end.

    Attributes:
        global_blocks: indices of the blocks that attend to the whole image; the others attend inside windows.
        window: tokens per window side.
        image_size: side in pixels that the position embedding was made for; other sizes are interpolated.
        file: name of Meta's file at PUBLISHED_AT; None: there is none.
    """

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    window: int = 14
    image_size: int = 1024
    file: str | None = None


TEACHER_SIZES = {
    # Ours, for tests and for showing the whole chain on a CPU; it has no published weights and learns with the rest.
    "tiny": TeacherSize(128, 4, 4, (1, 3), window=8, image_size=512),
    "b": TeacherSize(768, 12, 12, (2, 5, 8, 11), file="sam_vit_b_01ec64.pth"),
    "l": TeacherSize(1024, 24, 16, (5, 11, 17, 23), file="sam_vit_l_0b3195.pth"),
    "h": TeacherSize(1280, 32, 16, (7, 15, 23, 31), file="sam_vit_h_4b8939.pth"),
}


class BlockAdapter(nn.Module):
    """What one modality adds to one block of width `dim`: a key and a value token, and a bottleneck beside the MLP.

    A fresh one has (nearly) no effect: the adapter's last layer and the value token are zeros, and the key token's bias
    keeps its share of the attention below 0.1 %.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.tokens = BlockController(dim, heads, kind="tokens", tied=False)
        self.down = nn.Linear(dim, ADAPTER_WIDTH)
        self.up = nn.Linear(ADAPTER_WIDTH, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) normalised as for the MLP -> (..., C), to be added beside the MLP's output."""
        return self.up(F.gelu(self.down(x)))


class TeacherController(nn.Module):
    """Everything that belongs to one modality: a BlockAdapter for every block, in order."""

    def __init__(self, size: TeacherSize) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BlockAdapter(size.width, size.heads) for _ in range(size.depth))


class SamTeacher(nn.Module):
    """SAM's image encoder with a controller per modality.

    Args:
        modalities: the modality numbers.
        size: "b", "l", "h", or "tiny".
        weights: path of a file in the layout of Meta's `sam_vit_{b,l,h}_*.pth` (also MedSAM's and others'); None: random
            weights. Weights from a file are frozen here and now.

    Raises:
        ValueError: an unknown size.
        WeightsError: see `read_sam_image_encoder`.
    """

    def __init__(self, modalities: Sequence[int], size: str = "b", weights: str | Path | None = None) -> None:
        super().__init__()
        if size not in TEACHER_SIZES:
            raise ValueError(f"Unknown teacher size '{size}'. Available: {', '.join(TEACHER_SIZES)}.")
        shape = TEACHER_SIZES[size]
        if weights is None:
            self.vit = _sam_vit(shape)
            _initialise(self.vit)
        else:
            state = read_sam_image_encoder(weights, size)
            with torch.device("meta"):  # no random numbers for weights that are replaced
                self.vit = _sam_vit(shape)
            self.vit.load_state_dict(state, assign=True)
            self.vit.requires_grad_(False)
        self.controllers = nn.ModuleDict({str(k): TeacherController(shape) for k in modalities})
        # The published sizes' attention maps of one 1024 px image take gigabytes: kept for one block at a time.
        self.recomputes = shape.file is not None

    def forward(self, images: Tensor, grid: tuple[int, int], modality: Tensor | Sequence[int] | None) -> Tensor:
        """Embeddings of images, of one or of several modalities.

        Args:
            images: (B, 3, H, W) float in [0, 1], RGB; enlarged here to 16 pixels for each cell of `grid`.
            grid: (h, w) of the embedding that is wanted: the student's.
            modality: (B,) modality numbers; None: SAM as it is, without any controller.

        Returns:
            (B, 256, h, w) float.
        """
        side = (grid[0] * PATCH, grid[1] * PATCH)
        pixels = normalise(images, "sam")
        if pixels.shape[-2:] != side:
            pixels = F.interpolate(pixels, side, mode="bilinear", align_corners=False)
        if modality is None:
            with torch.device(pixels.device):
                return self.vit.forward_features(pixels)
        order, groups = group_by_modality(as_list(modality))
        pixels = taken(pixels, order)
        parts = [self._adapted(pixels[g.start : g.stop], self.controllers[str(g.modality)]) for g in groups]
        return put_back(torch.cat(parts), order)

    def _adapted(self, pixels: Tensor, controller: nn.Module) -> Tensor:
        x = self.vit.patch_embed(pixels)
        x = x + resample_abs_pos_embed_nhwc(self.vit.pos_embed, list(x.shape[1:3]))
        for block, adapter in zip(self.vit.blocks, controller.blocks, strict=True):  # type: ignore[arg-type]
            if self.recomputes and torch.is_grad_enabled():
                x = checkpoint(_adapted_block, x, block, adapter, use_reentrant=False)
            else:
                x = _adapted_block(x, block, adapter)
        return self.vit.neck(x.permute(0, 3, 1, 2))


def read_sam_image_encoder(path: str | Path, size: str) -> dict[str, Tensor]:
    """The image encoder of a SAM file, in timm's names; the file's prompt encoder and mask decoder are left out.

    Args:
        size: a name of TEACHER_SIZES.

    Raises:
        WeightsError: no such file (the message says what to download), a damaged one, another size, or a key that is
            missing, unknown or of another shape.
    """
    published = TEACHER_SIZES[size].file
    if not Path(path).is_file() and published is not None:
        raise WeightsError(
            f"Expected the weights of SAM ViT-{size.upper()} at {path}; there is no such file."
            f" Download {PUBLISHED_AT}{published} and give its path."
        )
    with torch.device("meta"):  # names and shapes only
        shapes = {name: tuple(t.shape) for name, t in _sam_vit(TEACHER_SIZES[size]).state_dict().items()}
    theirs = {f"image_encoder.{name.replace('mlp.fc', 'mlp.lin')}": name for name in shapes}
    state = read_state_dict(path)
    state = {name: t for name, t in state.items() if not name.startswith(("prompt_encoder.", "mask_decoder."))}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    check_shapes({name: shapes[own] for name, own in theirs.items()}, found, f"{path}{_other_size(found, size)}")
    return {own: state[name].float() for name, own in theirs.items()}


def _other_size(found: Mapping[str, tuple[int, ...]], size: str) -> str:
    """A hint for errors where the file is a SAM of another size."""
    width = found.get("image_encoder.patch_embed.proj.bias", (0,))[0]
    names = [name for name, other in TEACHER_SIZES.items() if other.width == width and name != size]
    return f", a SAM of size '{names[0]}' where '{size}' was asked for," if names else ""


def _sam_vit(size: TeacherSize) -> VisionTransformerSAM:
    return VisionTransformerSAM(
        img_size=size.image_size,
        patch_size=PATCH,
        num_classes=0,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        # As Meta's code has it; timm's own default is 1e-5.
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=size.window,
        global_attn_indexes=size.global_blocks,
        neck_chans=EMBEDDING_CHANNELS,
    )


def _initialise(vit: VisionTransformerSAM) -> None:
    nn.init.trunc_normal_(vit.pos_embed, std=0.02)
    for module in vit.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)


def _adapted_block(x: Tensor, block: Block, adapter: BlockAdapter) -> Tensor:
    """timm's Block with the modality's part in it: (B, H, W, C) -> (B, H, W, C)."""
    height, width = x.shape[1:3]
    tokens = block.norm1(x)
    if block.window_size:
        windows, padded = window_partition(tokens, block.window_size)
        windows = _attend(windows, block.attn, adapter.tokens)
        x = x + window_unpartition(windows, block.window_size, (height, width), padded)
    else:
        x = x + _attend(tokens, block.attn, adapter.tokens)
    normalised = block.norm2(x)
    return x + block.mlp(normalised) + adapter(normalised)


def _attend(x: Tensor, attention: Attention, controller: BlockController) -> Tensor:
    """Attention of all (B, H, W, C) tokens of a window to each other and to the controller's token.

    The learned token has no place in the image, so no relative position: its score gets a learned bias, one number for
    all heads, in place of the position's.
    """
    batch, height, width, _ = x.shape
    qkv = attention.qkv(x).view(batch, height * width, 3, attention.num_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    size = (height, width)
    # timm's table of positions is made without a device; of one on the CPU the program would wait for its copy.
    with torch.device(q.device):
        bias = get_decomposed_rel_pos_bias(q.flatten(0, 1), attention.rel_pos_h, attention.rel_pos_w, size, size)
    bias = bias.unflatten(0, q.shape[:2])
    tokens = controller.tokens()
    assert tokens is not None
    key, value, token_bias = (t.to(q.dtype) for t in tokens)
    k = torch.cat((k, key.expand(batch, -1, -1, -1)), dim=2)
    v = torch.cat((v, value.expand(batch, -1, -1, -1)), dim=2)
    bias = torch.cat((bias, token_bias.to(bias.dtype).expand(*bias.shape[:3], 1)), dim=3)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return attention.proj(out.transpose(1, 2).reshape(batch, height, width, -1))
