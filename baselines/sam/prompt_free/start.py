"""The pretrained model that an adaptation begins with: SAM's image encoder, and its mask decoder without points and boxes.

Where nobody gives a prompt, SAM adds one learned embedding ("no mask was given") to the image's, and its mask decoder gets its own
tokens alone: SAM's default prompt (Kirillov et al., "Segment Anything", ICCV 2023). Of SAM's tokens and mask MLPs the
single mask's draws; the parts for other masks and for their quality are left out of the light models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from baselines.names import unknown
from baselines.sam.hub import HubSam
from baselines.sam.light import LightSam
from baselines.sam.preprocessing import Preprocessing
from delightsam.modeling.controllers import Group
from delightsam.modeling.decoder import Decoder
from delightsam.modeling.encoder import EMBEDDING_CHANNELS
from delightsam.modeling.tiny_vit import AttentionBlock

# The row of SAM's single mask among the decoder's tokens: the quality token comes first.
_SINGLE = 1
# Side of a pixel of the embedding, by family, in pixels of the image.
_STRIDES = {"lite_medsam": 4, "mobile_sam": 16}

MakeAdapter = Callable[[int], nn.Module]


class Projection(NamedTuple):
    """The layer that makes queries, keys and values of tokens.

    Attributes:
        heads: its outputs are ordered by head, of each head the query first; None: all queries first, then keys, then values.
    """

    layer: nn.Linear
    heads: int | None


class Start(nn.Module):
    """A pretrained model without prompts.

    Attributes:
        encoder: the image encoder.
        decoder: the mask decoder.
        no_mask: (C,) the embedding that stands for "no mask was given".
    """

    encoder: nn.Module
    decoder: nn.Module
    no_mask: nn.Parameter

    @property
    def width(self) -> int:
        """Channels C of the embedding."""
        return len(self.no_mask)

    def frame(self, height: int, width: int) -> Preprocessing:
        """How images of this size reach the encoder."""
        raise NotImplementedError

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, 3, side, side) normalised -> embedding (B, C, h, w)."""
        raise NotImplementedError

    def draw(self, embedding: Tensor) -> Tensor:
        """Logits (B, 1, 4h, 4w) of embeddings (B, C, h, w) with a dense prompt added."""
        raise NotImplementedError

    def drop_decoder(self) -> None:
        """For a head of another kind: decoder and prompt are no part of the model then."""
        del self.decoder, self.no_mask

    def idle_parameters(self) -> list[nn.Parameter]:
        """Those that no mask depends on."""
        return []

    # Places for what learns

    def projections(self) -> list[Projection]:
        """Of every attention of the image encoder."""
        raise NotImplementedError

    def adapt_encoder(self, after_attention: MakeAdapter, beside_mlp: MakeAdapter) -> None:
        """Puts modules, made for a width, into every transformer block: what attention gives passes the first before it is
        added to the block's input; what the second makes of the MLP's normalised input is added to the MLP's output."""
        raise NotImplementedError

    def adapt_decoder(self, make: MakeAdapter) -> None:
        """Puts three modules into every two-way block: after the residual sums of the tokens' attention to the image, of the
        tokens' MLP, and of the image's attention to the tokens; each before the sum's LayerNorm."""
        for block, norms in self._two_way_blocks():
            for name in norms:
                norm = getattr(block, name)
                setattr(block, name, nn.Sequential(make(norm.normalized_shape[0]), norm))

    def _two_way_blocks(self) -> list[tuple[nn.Module, tuple[str, str, str]]]:
        """With the names of the LayerNorms after the three sums of `adapt_decoder`."""
        raise NotImplementedError


class LightStart(Start):
    """LiteMedSAM or MobileSAM. Images are taken at their own size, as De-LightSAM takes them.

    Raises:
        WeightsError: see LightSam.
    """

    encoder: Any
    decoder: Decoder

    def __init__(self, weights: str, family: str) -> None:
        super().__init__()
        light = LightSam(weights, family)
        shared = light.decoder.shared
        queries = torch.cat((light.decoder.quality_token, shared.queries)).detach()
        self.encoder = light.encoder
        self.decoder = Decoder((_SINGLE,), len(queries), "shared")
        self.decoder.load_state_dict({**shared.state_dict(), "queries": queries})
        self.no_mask = light.prompts.no_mask
        self.scaling, self.stride = light.preprocessing.scaling, _STRIDES[family]

    def frame(self, height: int, width: int) -> Preprocessing:
        side = -(-max(height, width) // self.stride) * self.stride
        return Preprocessing(self.scaling, keeps_aspect=True, side=side)

    def embed(self, pixels: Tensor) -> Tensor:
        return self.encoder(pixels)

    def draw(self, embedding: Tensor) -> Tensor:
        return self.decoder(embedding, [Group(_SINGLE, 0, len(embedding))])

    @property
    def width(self) -> int:
        return EMBEDDING_CHANNELS

    def projections(self) -> list[Projection]:
        return [
            Projection(block.attention.qkv, block.attention.heads)
            for stage in self.encoder.backbone.stages[1:]
            for block in stage.blocks
        ]

    def adapt_encoder(self, after_attention: MakeAdapter, beside_mlp: MakeAdapter) -> None:
        for stage in self.encoder.backbone.stages[1:]:
            for index, block in enumerate(stage.blocks):
                width = block.attention.qkv.in_features
                block.attention.project = nn.Sequential(block.attention.project, after_attention(width))
                stage.blocks[index] = BranchedBlock(block, beside_mlp(width))

    def _two_way_blocks(self) -> list[tuple[nn.Module, tuple[str, str, str]]]:
        return [(block, ("norm2", "norm3", "norm4")) for block in self.decoder.layers]


class BranchedBlock(nn.Module):
    """TinyViT's attention block with a branch beside its MLP."""

    def __init__(self, block: AttentionBlock, branch: nn.Module) -> None:
        super().__init__()
        self.block, self.branch = block, branch

    def forward(self, x: Tensor, routes: Any = ()) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C); there are no controllers, so no routes."""
        block = self.block
        x = x + block.attention(x)
        x = block.local(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + block.mlp(x) + self.branch(block.mlp.norm(x))


class HubStart(Start):
    """SAM or MedSAM with a ViT, through transformers. Images are enlarged to the size that it was made for.

    Raises:
        ValueError: see HubSam.
    """

    encoder: Any
    position: Tensor

    def __init__(self, weights: str, family: str) -> None:
        super().__init__()
        hub = HubSam(weights, family)
        model: Any = hub.model
        self.encoder, self.decoder = model.vision_encoder, model.mask_decoder
        self.no_mask = nn.Parameter(model.prompt_encoder.no_mask_embed.weight[0].detach().clone())
        position = model.get_image_wide_positional_embeddings().detach()
        self.register_buffer("position", position, persistent=False)
        self.preprocessing, self.idle = hub.preprocessing, hub.idle

    def frame(self, height: int, width: int) -> Preprocessing:
        return self.preprocessing

    def embed(self, pixels: Tensor) -> Tensor:
        return self.encoder(pixels).last_hidden_state

    def draw(self, embedding: Tensor) -> Tensor:
        position = self.position.expand(len(embedding), -1, -1, -1)
        masks, _ = self.decoder(
            image_embeddings=embedding,
            image_positional_embeddings=position,
            sparse_prompt_embeddings=None,
            dense_prompt_embeddings=torch.zeros_like(embedding[:1]),
            multimask_output=False,
        )
        return masks[:, 0]

    @property
    def width(self) -> int:
        return int(self.encoder.config.output_channels)

    def idle_parameters(self) -> list[nn.Parameter]:
        if "decoder" not in self._modules:
            return []
        return [value for name, value in self.decoder.named_parameters() if name.startswith(self.idle)]

    def projections(self) -> list[Projection]:
        return [Projection(layer.attn.qkv, None) for layer in self.encoder.layers]

    def adapt_encoder(self, after_attention: MakeAdapter, beside_mlp: MakeAdapter) -> None:
        for layer in self.encoder.layers:
            width = layer.attn.qkv.in_features
            layer.attn.proj = nn.Sequential(layer.attn.proj, after_attention(width))
            layer.mlp = Branched(layer.mlp, beside_mlp(width))

    def _two_way_blocks(self) -> list[tuple[nn.Module, tuple[str, str, str]]]:
        blocks: Any = self.decoder.transformer
        return [(block, ("layer_norm2", "layer_norm3", "layer_norm4")) for block in blocks.layers]


class Branched(nn.Module):
    """The sum of two modules of the same input."""

    def __init__(self, module: nn.Module, branch: nn.Module) -> None:
        super().__init__()
        self.module, self.branch = module, branch

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x) + self.branch(x)


STARTS: dict[str, Callable[[str, str], Start]] = {
    "lite_medsam": LightStart,
    "mobile_sam": LightStart,
    "sam": HubStart,
    "medsam": HubStart,
}


def read_start(family: str, weights: str) -> Start:
    """The model of a family, from its weights: a file (lite_medsam, mobile_sam), or a folder or hub name (sam, medsam).

    Raises:
        ValueError: an unknown family, or weights that can't be had or don't fit.
    """
    if family not in STARTS:
        raise unknown("family", family, STARTS)
    return STARTS[family](weights, family)
