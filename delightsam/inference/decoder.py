"""Prompts and QM-Decoder in few operations: what depends on no image is computed once, one matrix for what reads the same."""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.inference.stacks import Chosen, Stack, StackedLinear
from delightsam.modeling.config import DeLightSAMConfig
from delightsam.modeling.decoder import HEADS, SHARED, Attention, Decoder, TwoWayBlock
from delightsam.modeling.layers import LayerNorm2d
from delightsam.modeling.prompts import SelfPatchPrompts


class FastPrompts:
    """What `SelfPatchPrompts` adds to an embedding. A prompt's patch is there or not, so there are two prompts at most."""

    def __init__(self, prompts: SelfPatchPrompts, converted: SelfPatchPrompts) -> None:
        self.generator = converted.generator
        self.threshold_logit = prompts.threshold_logit
        dtype = next(converted.parameters()).dtype
        absent, present = prompts.encoder(torch.tensor([0.0, 1.0], device=_device(prompts)).view(2, 1, 1, 1)).flatten(1)
        self.absent, self.difference = absent.to(dtype), (present - absent).to(dtype)

    def __call__(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """(B, h, w, 256) -> patch logits (B, 1, h/2, w/2) and the prompted embedding (B, h, w, 256)."""
        logits = self.generator(embedding.permute(0, 3, 1, 2))
        patches = (logits >= self.threshold_logit).to(embedding.dtype)
        enlarged = F.interpolate(patches, scale_factor=2, mode="nearest").permute(0, 2, 3, 1)
        return logits, torch.addcmul(embedding + self.absent, enlarged, self.difference)


class FastDecoder:
    """What `Decoder` computes for images that all see the same rows of queries, of one fused in float32.

    Args:
        added: for images of the modalities that were added, which see their own query beside the table.
    """

    def __init__(self, decoder: Decoder, config: DeLightSAMConfig, dtype: torch.dtype, added: bool) -> None:
        self.decoder, self.dtype = decoder, dtype
        table, numbers = decoder.queries, config.modalities
        own = [decoder.own_row(number) for number in numbers]
        codes: list[Tensor] = [table]
        if added:
            own = [len(table)] * len(numbers)
            codes = [torch.cat((table, decoder.query(number)[None])) for number in numbers]
        self.varies = added
        self.own, self.own_rows = own, torch.tensor(own, device=table.device)
        self.layers = [FastTwoWay(layer, dtype) for layer in decoder.layers]  # type: ignore[arg-type]
        self.codes = Stack([code.to(dtype) for code in codes])
        self.started = Stack([_started(decoder.layers[0], code).to(dtype) for code in codes])  # type: ignore[arg-type]
        self.final = FastAttention(decoder.final_attention, dtype)
        self.final_norm = _Norm(decoder.final_norm, dtype)
        names = [SHARED] if SHARED in decoder.hypernetworks else [str(k) for k in numbers]
        networks = [list(decoder.hypernetworks[name].layers) for name in names]  # type: ignore[arg-type]
        self.one_network = SHARED in decoder.hypernetworks
        self.hypernetwork = [
            StackedLinear([layer.weight.to(dtype) for layer in layers], [layer.bias.to(dtype) for layer in layers])
            for layers in zip(*networks, strict=True)
        ]
        self.upscale = FastUpscale(decoder.upscale, dtype)
        self._constants: dict[tuple[int, int], list[Tensor]] = {}

    def __call__(self, image: Tensor, chosen: Chosen) -> Tensor:
        """Prompted embedding (B, h, w, 256) -> mask logits (B, 1, 4h, 4w); `chosen`: positions in the model's modalities."""
        batch, height, width, _ = image.shape
        constants = self._of_size(height, width)
        image, kind = image.flatten(1, 2), chosen if self.varies else 0
        code, queries = (stack[kind].expand(batch, -1, -1) for stack in (self.codes, self.started))
        for number, layer in enumerate(self.layers):
            queries, image = layer(queries, image, code, constants[number], first=number == 0)
        if isinstance(chosen, int):
            row = self.own[chosen]
            queries, code = queries[:, row : row + 1], code[:, row : row + 1]
        else:
            rows = self.own_rows[chosen].view(batch, 1, 1).expand(-1, 1, queries.shape[2])
            queries, code = queries.gather(1, rows), code.gather(1, rows)
        found = self.final.from_image(queries + code, image, constants[-1])
        own = self.final_norm(queries + found)
        network = 0 if self.one_network else chosen
        *hidden, last = self.hypernetwork
        for step in hidden:
            own = F.relu(step(own, network))
        own = last(own, network)
        return self.upscale(image, own, height, width)

    def _of_size(self, height: int, width: int) -> list[Tensor]:
        """What the position code adds to the keys of each attention that reads the image."""
        if (height, width) not in self._constants:
            position = self.decoder.position(height, width)[0].double()
            layers = [layer.constant(position) for layer in self.layers]
            self._constants[height, width] = [t.to(self.dtype) for t in (*layers, self.final.constant(position))]
        return self._constants[height, width]


class FastAttention:
    """Queries attend to the image: its keys and values are one product."""

    def __init__(self, attention: Attention, dtype: torch.dtype) -> None:
        self.query, self.project = _layer(attention.query, dtype), _layer(attention.project, dtype)
        self.layers = [attention.key, attention.value]
        self.weight = torch.cat([layer.weight for layer in self.layers]).to(dtype)

    def constant(self, position: Tensor) -> Tensor:
        """(N, 2 * inner) of the position code (N, 256): its own key, and the biases."""
        key, value = self.layers
        return torch.cat((_exact(key, position), value.bias.double().expand(len(position), -1)), dim=1)

    def from_image(self, queries: Tensor, image: Tensor, constant: Tensor) -> Tensor:
        """(B, Q, 256) and (B, N, 256) -> (B, Q, 256)."""
        key, value = _heads(F.linear(image, self.weight) + constant, 2)
        return self.attend(queries, key, value)

    def attend(self, queries: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query = F.linear(queries, *self.query).unflatten(2, (HEADS, -1)).transpose(1, 2)
        return F.linear(_joined(F.scaled_dot_product_attention(query, key, value)), *self.project)


class FastTwoWay:
    """A block of the two-way transformer, in which the image is read by one product for all that it gives."""

    def __init__(self, block: TwoWayBlock, dtype: torch.dtype) -> None:
        own, to_image, to_queries = block.self_attention, block.queries_to_image, block.image_to_queries
        self.own_qk = _together([own.query, own.key], dtype)
        self.own_value, self.own_project = _layer(own.value, dtype), _layer(own.project, dtype)
        self.to_image = FastAttention(to_image, dtype)
        self.image_layers = [to_image.key, to_queries.query, to_image.value]
        self.image_weight = torch.cat([layer.weight for layer in self.image_layers]).to(dtype)
        self.back_key, self.back_value = _layer(to_queries.key, dtype), _layer(to_queries.value, dtype)
        self.back_project = _layer(to_queries.project, dtype)
        self.fc1, self.fc2 = _layer(block.fc1, dtype), _layer(block.fc2, dtype)
        self.norms = [_Norm(norm, dtype) for norm in (block.norm1, block.norm2, block.norm3, block.norm4)]

    def constant(self, position: Tensor) -> Tensor:
        """(N, 3 * inner): what the position code adds to the image's keys and queries, and the biases."""
        key, query, value = self.image_layers
        parts = _exact(key, position), _exact(query, position), value.bias.double().expand(len(position), -1)
        return torch.cat(parts, dim=1)

    def __call__(
        self, queries: Tensor, image: Tensor, code: Tensor, constant: Tensor, first: bool
    ) -> tuple[Tensor, Tensor]:
        """As `TwoWayBlock`; the first one's self-attention, which no image changes, lies behind its `queries`."""
        norm1, norm2, norm3, norm4 = self.norms
        if not first:
            coded = queries + code
            q, k = _heads(F.linear(coded, *self.own_qk), 2)
            v = F.linear(queries, *self.own_value).unflatten(2, (HEADS, -1)).transpose(1, 2)
            attended = _joined(F.scaled_dot_product_attention(q, k, v))
            queries = norm1(queries + F.linear(attended, *self.own_project))
        key, query, value = _heads(F.linear(image, self.image_weight) + constant, 3)
        queries = norm2(queries + self.to_image.attend(queries + code, key, value))
        queries = norm3(queries + F.linear(F.relu(F.linear(queries, *self.fc1)), *self.fc2))
        k = F.linear(queries + code, *self.back_key).unflatten(2, (HEADS, -1)).transpose(1, 2)
        v = F.linear(queries, *self.back_value).unflatten(2, (HEADS, -1)).transpose(1, 2)
        attended = _joined(F.scaled_dot_product_attention(query, k, v))
        return queries, norm4(image + F.linear(attended, *self.back_project))


class FastUpscale:
    """The two transposed convolutions of 2 x 2 at stride 2, and the product with the mask's kernel.

    No output pixel of them sees a second token, so they are linear layers; only the finished mask is put in order.
    """

    def __init__(self, upscale: nn.Sequential, dtype: torch.dtype) -> None:
        first, norm, _, second, _ = upscale
        assert isinstance(first, nn.ConvTranspose2d) and isinstance(second, nn.ConvTranspose2d)
        assert isinstance(norm, LayerNorm2d)
        self.first, self.second, self.norm = _as_linear(first, dtype), _as_linear(second, dtype), _Norm(norm, dtype)
        self.middle, self.channels = first.out_channels, second.out_channels

    def __call__(self, image: Tensor, kernel: Tensor, height: int, width: int) -> Tensor:
        """Tokens (B, h * w, 256) and kernels (B, 1, 32) -> (B, 1, 4h, 4w)."""
        batch = len(image)
        x = self.norm(F.linear(image, *self.first).unflatten(2, (4, self.middle)))
        x = F.gelu(F.linear(F.gelu(x), *self.second)).view(batch, -1, self.channels)
        masks = torch.bmm(x, kernel.transpose(1, 2)).view(batch, height, width, 2, 2, 2, 2)
        return masks.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, 1, 4 * height, 4 * width)


class _Norm:
    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        self.shape, self.eps = tuple(norm.normalized_shape), norm.eps
        self.weight, self.bias = norm.weight.to(dtype), norm.bias.to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)


def _layer(layer: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return layer.weight.to(dtype), layer.bias.to(dtype)


def _together(layers: Sequence[nn.Linear], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.cat([x.weight for x in layers]).to(dtype), torch.cat([x.bias for x in layers]).to(dtype)


def _exact(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight.double(), layer.bias.double())


def _as_linear(conv: nn.ConvTranspose2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight (4 * out, in) and bias of the linear layer whose outputs are the 2 x 2 pixels, each with its channels."""
    assert conv.bias is not None
    return conv.weight.permute(2, 3, 1, 0).flatten(0, 2).to(dtype).contiguous(), conv.bias.repeat(4).to(dtype)


def _heads(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """(B, N, count * inner) -> `count` times (B, heads, N, d)."""
    return x.unflatten(2, (count, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _joined(x: Tensor) -> Tensor:
    """(B, heads, N, d) -> (B, N, heads * d)."""
    return x.transpose(1, 2).flatten(2)


def _started(block: TwoWayBlock, code: Tensor) -> Tensor:
    """The queries (Q, 256) after the first block's self-attention, which sees the code alone."""
    table = code[None]
    return block.norm1(block.self_attention(table, table, table))[0]


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
