"""De-LightSAM by the authors' data flow, step by step: what the speed and the memory of ours are compared with.

Same weights, same function, nothing clever: every image decoded by itself, BatchNorm beside its convolution, windows
really padded and copied, attention spelled out, controller tokens and biases gathered at every call, MLP and expert one
after the other, the position code made anew for each image, a kernel and a mask for every query although one is asked
for. Modules of our model only hold the weights here; their forward methods are not called.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam import DeLightSAM
from delightsam.modeling.attention import WindowAttention
from delightsam.modeling.controllers import BlockController
from delightsam.modeling.decoder import HEADS, SHARED, Attention, Decoder, TwoWayBlock
from delightsam.modeling.layers import ConvNorm, LayerNorm2d, TokenMLP
from delightsam.modeling.preprocessing import normalise
from delightsam.modeling.tiny_vit import AttentionBlock, Downsample, InvertedResidual


class PlainDeLightSAM(nn.Module):
    """The plain form of a model that is not fused, with a copy of its weights."""

    def __init__(self, model: DeLightSAM) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval()

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        return self(normalise(images, self.model.config.preprocessing), modality)

    def forward(self, images: Tensor, modality: Tensor | int) -> Tensor:
        """Mask logits (B, 1, S, S) of normalised images (B, 3, S, S) with sides that are multiples of 32."""
        numbers = [modality] * len(images) if isinstance(modality, int) else modality.tolist()
        if len(set(numbers)) > 1:  # a batch of theirs is of one modality
            return torch.cat([self(image[None], number) for image, number in zip(images, numbers, strict=True)])
        embedding = self.encode(images, numbers[0])
        prompt = self.prompt(embedding)
        masks = [self.decode(embedding[i : i + 1], prompt[i : i + 1], numbers[0]) for i in range(len(images))]
        return F.interpolate(torch.cat(masks), images.shape[-2:], mode="bilinear", align_corners=False)

    def encode(self, images: Tensor, number: int) -> Tensor:
        backbone = self.model.encoder.backbone
        x = conv_norm(backbone.stem.second, F.gelu(conv_norm(backbone.stem.first, images)))
        first, *stages = backbone.stages
        for block in first.blocks:
            x = inverted_residual(block, x)
        x = downsample(first.downsample, x)
        blocks = iter(self.model.controllers[str(number)].blocks)
        for stage in stages:
            height, width = x.shape[-2:]
            tokens = x.flatten(2).transpose(1, 2)
            for block in stage.blocks:
                tokens = attention_block(block, tokens, height, width, next(blocks))
            x = tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)
            if stage.downsample is not None:
                x = downsample(stage.downsample, x)
        return sequence(self.model.encoder.neck, x)

    def prompt(self, embedding: Tensor) -> Tensor:
        prompts, threshold = self.model.prompts, self.model.config.prompt_threshold
        patches = (torch.sigmoid(sequence(prompts.generator, embedding)) >= threshold).to(embedding.dtype)
        return sequence(prompts.encoder, F.interpolate(patches, scale_factor=2, mode="nearest"))

    def decode(self, embedding: Tensor, prompt: Tensor, number: int) -> Tensor:
        """Logits (1, 1, 4h, 4w) of one image: a mask for every query, of which one is kept."""
        decoder = self.model.decoder
        height, width = embedding.shape[-2:]
        image = (embedding + prompt).flatten(2).transpose(1, 2)
        position = position_code(decoder, height, width)
        code = queries = decoder.queries[None]
        for layer in decoder.layers:
            queries, image = two_way_block(layer, queries, image, code, position)
        queries = queries + decoder_attention(decoder.final_attention, queries + code, image + position, image)
        queries = decoder.final_norm(queries)
        upscaled = sequence(decoder.upscale, image.transpose(1, 2).reshape(1, -1, height, width))
        networks = decoder.hypernetworks
        network = networks[SHARED] if SHARED in networks else networks[str(number)]
        kernels = []
        for i in range(queries.shape[1]):
            first, second, third = network.layers
            kernels.append(third(F.relu(second(F.relu(first(queries[:, i]))))))
        masks = torch.stack(kernels, dim=1) @ upscaled.flatten(2)
        return masks.view(1, -1, 4 * height, 4 * width)[:, number : number + 1]


def sequence(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Applies modules of PyTorch, and SAM's LayerNorm over channels by its formula."""
    for layer in layers:
        if isinstance(layer, LayerNorm2d):
            mean = x.mean(1, keepdim=True)
            variance = (x - mean).pow(2).mean(1, keepdim=True)
            x = (x - mean) / torch.sqrt(variance + layer.eps)
            x = layer.weight[:, None, None] * x + layer.bias[:, None, None]
        else:
            x = layer(x)
    return x


def conv_norm(layer: ConvNorm, x: Tensor) -> Tensor:
    return layer.norm(layer.conv(x))


def inverted_residual(block: InvertedResidual, x: Tensor) -> Tensor:
    hidden = F.gelu(conv_norm(block.expand, x))
    hidden = F.gelu(conv_norm(block.depthwise, hidden))
    return F.gelu(x + conv_norm(block.project, hidden))


def downsample(layer: Downsample, x: Tensor) -> Tensor:
    x = F.gelu(conv_norm(layer.expand, x))
    x = F.gelu(conv_norm(layer.depthwise, x))
    return conv_norm(layer.project, x)


def token_mlp(layer: TokenMLP, x: Tensor) -> Tensor:
    return layer.fc2(F.gelu(layer.fc1(layer.norm(x))))


def attention_block(block: AttentionBlock, x: Tensor, height: int, width: int, controller: BlockController) -> Tensor:
    """Tokens (B, H * W, C)."""
    batch, _, channels = x.shape
    window = block.attention.window
    down, right = -height % window, -width % window
    rows, columns = (height + down) // window, (width + right) // window
    padded = F.pad(x.view(batch, height, width, channels), (0, 0, 0, right, 0, down))
    windows = padded.view(batch, rows, window, columns, window, channels).transpose(2, 3)
    attended = window_attention(block.attention, windows.reshape(-1, window * window, channels), controller)
    map_ = attended.view(batch, rows, columns, window, window, channels).transpose(2, 3)
    map_ = map_.reshape(batch, height + down, width + right, channels)[:, :height, :width]
    x = x + map_.reshape(batch, height * width, channels)
    x = conv_norm(block.local, x.transpose(1, 2).reshape(batch, channels, height, width))
    x = x.view(batch, channels, height * width).transpose(1, 2)
    out = x + token_mlp(block.mlp, x)
    return out if controller.expert is None else out + token_mlp(controller.expert, x)


def window_attention(layer: WindowAttention, windows: Tensor, controller: BlockController) -> Tensor:
    """Windows (N, window * window, C), the controller's token appended to the keys and values of each."""
    count, length, channels = windows.shape
    qkv = layer.qkv(layer.norm(windows)).view(count, length, layer.heads, -1)
    q, k, v = (part.permute(0, 2, 1, 3) for part in qkv.split(channels // layer.heads, dim=3))
    bias = layer.offset_bias[:, layer.offset_index.reshape(length, length)]
    tokens = controller.tokens()
    if tokens is not None:
        key, value, token_bias = tokens
        k = torch.cat((k, key.expand(count, -1, -1, -1)), dim=2)
        v = torch.cat((v, value.expand(count, -1, -1, -1)), dim=2)
        bias = torch.cat((bias, token_bias.expand(layer.heads, length, 1)), dim=2)
    scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5 + bias
    return layer.project((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(count, length, channels))


def two_way_block(
    block: TwoWayBlock, queries: Tensor, image: Tensor, code: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    if block.first:
        queries = decoder_attention(block.self_attention, queries, queries, queries)
    else:
        queries = queries + decoder_attention(block.self_attention, queries + code, queries + code, queries)
    queries = block.norm1(queries)
    queries = queries + decoder_attention(block.queries_to_image, queries + code, image + position, image)
    queries = block.norm2(queries)
    queries = block.norm3(queries + block.fc2(F.relu(block.fc1(queries))))
    image = image + decoder_attention(block.image_to_queries, image + position, queries + code, queries)
    return queries, block.norm4(image)


def decoder_attention(layer: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    def split(x: Tensor) -> Tensor:
        return x.view(len(x), x.shape[1], HEADS, -1).transpose(1, 2)

    q, k, v = split(layer.query(q)), split(layer.key(k)), split(layer.value(v))
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    return layer.project((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


def position_code(decoder: Decoder, height: int, width: int) -> Tensor:
    """SAM's random-Fourier code of the grid's cells: (1, height * width, 256)."""
    ones = torch.ones((height, width), device=decoder.frequencies.device)
    grid = torch.stack(((ones.cumsum(1) - 0.5) / width, (ones.cumsum(0) - 0.5) / height), dim=-1)
    angles = 2 * math.pi * ((2 * grid - 1) @ decoder.frequencies)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).view(1, height * width, -1)
