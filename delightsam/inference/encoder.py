"""The encoder in few operations: all windows of a block at once, MLP and expert as one, no loop over modalities."""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from delightsam.inference.stacks import Chosen, Stack, StackedLinear
from delightsam.modeling import kernels
from delightsam.modeling.controllers import BlockController, Controller
from delightsam.modeling.layers import ConvChain, TokenMLP
from delightsam.modeling.model import DeLightSAM
from delightsam.modeling.tiny_vit import AttentionBlock, AttentionStage
from delightsam.modeling.windows import window_rows

_ALIGNED = 8  # elements: PyTorch's attention kernels copy a bias whose rows begin elsewhere
_NO_ATTENTION = float("-inf")


class FastEncoder:
    """What a model's encoder and controllers compute.

    Args:
        model: fused, in float32: what can be folded is folded from these weights.
        convolutions: the same model, fused to the type of the result: its convolutions are used.
    """

    def __init__(self, model: DeLightSAM, convolutions: DeLightSAM) -> None:
        backbone = convolutions.encoder.backbone
        first = backbone.stages[0]
        self.early = [FastChain(part) for part in (backbone.stem, *first.blocks, first.downsample)]  # type: ignore[misc]
        self.neck = convolutions.encoder.neck
        controllers = [model.controllers[str(k)] for k in model.config.modalities] if model.controllers else []
        self.stages: list[tuple[list[FastBlock], FastChain | None]] = []
        number = 0
        for exact, stage in zip(list(model.encoder.backbone.stages)[1:], list(backbone.stages)[1:], strict=True):
            assert isinstance(exact, AttentionStage) and isinstance(stage, AttentionStage)
            blocks = []
            for block, conv in zip(exact.blocks, stage.blocks, strict=True):
                blocks.append(FastBlock(block, conv, [_part(one, number) for one in controllers]))  # type: ignore[arg-type]
                number += 1
            self.stages.append((blocks, None if stage.downsample is None else FastChain(stage.downsample)))

    def __call__(self, images: Tensor, chosen: Chosen | None) -> Tensor:
        """Normalised images (B, 3, S, S) -> embedding (B, h, w, 256).

        Args:
            chosen: positions in the model's list of modalities; None: the shared part alone.
        """
        x = images.contiguous(memory_format=torch.channels_last)
        for part in self.early:
            x = part(x)
        for blocks, downsample in self.stages:
            height, width = x.shape[2:]
            windows = blocks[0].windows(height, width, chosen)
            tokens = x.permute(0, 2, 3, 1).flatten(1, 2)
            for block in blocks:
                tokens = block(tokens, windows, chosen)
            x = tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)
            if downsample is not None:
                x = downsample(x)
        return self.neck(x).permute(0, 2, 3, 1)


class FastChain:
    """A chain of fused convolutions. On a GPU those of 1 x 1 are linear layers: cuDNN would add their bias by itself."""

    def __init__(self, chain: ConvChain) -> None:
        self.chain = chain
        self.convolutions = [layer.conv for layer in chain.layers()]

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W), channels last -> (B, C', H', W')."""
        if kernels.fast_path(x):
            return self.chain(x)
        out = x
        for number, conv in enumerate(self.convolutions):
            if number:
                out = F.gelu(out)
            if conv.kernel_size == (1, 1):
                tokens = F.linear(out.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias)
                out = tokens.permute(0, 3, 1, 2)
            else:
                out = conv(out)
        return self.chain.finish(out, x)


class Windows(NamedTuple):
    """How the tokens of a map (H * W of them) lie in windows of N tokens.

    Attributes:
        size: (H, W).
        gather, scatter: see `WindowRows`.
        chosen: as the batch's, for each window.
    """

    size: tuple[int, int]
    gather: Tensor
    scatter: Tensor
    chosen: Chosen | None


class FastBlock:
    """An attention block with the controllers of all modalities.

    After the last modality's entry of each stack comes one without effect: the shared part alone.
    """

    def __init__(
        self, block: AttentionBlock, converted: AttentionBlock, controllers: Sequence[BlockController]
    ) -> None:
        attention = block.attention
        self.local, dtype = converted.local, converted.attention.qkv.weight.dtype
        self.heads, self.window = attention.heads, attention.window
        self.shape, self.eps = tuple(attention.norm.normalized_shape), attention.norm.eps
        # Of the affine part of the norm and the linear layer one: then a padded token, which is zero before the norm, has
        # the layer's bias as query, key and value. Rows by (query, key, value), head, channel.
        weight, bias = attention.qkv.weight.double(), attention.qkv.bias.double()
        bias = bias + weight @ attention.norm.bias.double()
        weight = weight * attention.norm.weight.double()
        self.qkv_weight, self.qkv_bias = (
            t.unflatten(0, (self.heads, 3, -1)).transpose(0, 1).flatten(0, 2).to(dtype).contiguous()
            for t in (weight, bias)
        )
        self.project = converted.attention.project
        self.mlp = _stacked_mlp(block.mlp, controllers, dtype)
        self.mlp_eps = block.mlp.norm.eps
        tokens = [tokens for one in controllers if (tokens := one.tokens()) is not None]
        self.has_tokens, self.has_experts = bool(tokens), any(one.expert is not None for one in controllers)
        self.neutral = len(controllers)
        self._set_tokens(attention.offset_bias[:, attention.offset_index].flatten(1, 2).flatten(2), tokens, dtype)

    def _set_tokens(self, bias: Tensor, tokens: Sequence[tuple[Tensor, Tensor, Tensor]], dtype: torch.dtype) -> None:
        """Rows behind the map's tokens: queries, keys and values (2, 3C) of a padded token and of the controller's.

        And the bias (heads, N, keys) of each modality, its rows aligned.
        """
        padded = self.qkv_bias
        rows = []
        for key, value, _ in tokens:
            token = torch.stack((torch.zeros_like(key), key, value)).flatten().to(dtype)
            rows.append(torch.stack((padded, token)))
        rows.append(torch.stack((padded, torch.zeros_like(padded))))
        self.behind = Stack(rows)
        self.keys = bias.shape[2] + self.has_tokens
        width = -(-self.keys // _ALIGNED) * _ALIGNED
        shares = [*(float(share) for _, _, share in tokens), _NO_ATTENTION]
        biases = []
        for share in shares:
            whole = bias.new_full((*bias.shape[:2], width), share)
            whole[..., : bias.shape[2]] = bias
            biases.append(whole.to(dtype))
        self.bias = Stack(biases)

    def windows(self, height: int, width: int, chosen: Chosen | None) -> Windows:
        """The windows of a map of this size."""
        rows = window_rows(height, width, self.window, self.has_tokens, self.qkv_bias.device)
        if isinstance(chosen, Tensor):
            chosen = chosen.repeat_interleave(len(rows.gather))
        return Windows((height, width), rows.gather.flatten(), rows.scatter, chosen)

    def __call__(self, x: Tensor, windows: Windows, chosen: Chosen | None) -> Tensor:
        """Tokens (B, H * W, C) -> (B, H * W, C)."""
        x = x + self.attend(x, windows, chosen)
        x = self.local(x.unflatten(1, windows.size).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2)
        first, second = self.mlp
        own = self._own(chosen, self.has_experts)
        hidden = F.gelu(first(F.layer_norm(x, self.shape, eps=self.mlp_eps), own))
        return x + second(hidden, own)

    def attend(self, x: Tensor, windows: Windows, chosen: Chosen | None) -> Tensor:
        batch, _, channels = x.shape
        qkv = F.linear(F.layer_norm(x, self.shape, eps=self.eps), self.qkv_weight, self.qkv_bias)
        behind = self.behind[self._own(chosen, self.has_tokens)].expand(batch, -1, -1)
        inside = torch.cat((qkv, behind), dim=1).index_select(1, windows.gather)
        tokens = self.window**2
        q, k, v = inside.view(-1, tokens + self.has_tokens, 3, self.heads, channels // self.heads).permute(
            2, 0, 3, 1, 4
        )
        bias = self.bias[self._own(windows.chosen, self.has_tokens)].narrow(-1, 0, self.keys)
        if self.has_tokens:
            q = q.narrow(2, 0, tokens)
        if bias.ndim == 3:
            bias = bias.unsqueeze(0)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        found = attended.transpose(1, 2).reshape(batch, -1, channels).index_select(1, windows.scatter)
        return self.project(found)

    def _own(self, chosen: Chosen | None, varies: bool) -> Chosen:
        """The entries of a stack: where nothing varies with the modality it holds one."""
        if not varies:
            return 0
        return self.neutral if chosen is None else chosen


def _part(controller: torch.nn.Module, number: int) -> BlockController:
    assert isinstance(controller, Controller)
    part = controller.blocks[number]
    assert isinstance(part, BlockController)
    return part


def _stacked_mlp(
    shared: TokenMLP, controllers: Sequence[BlockController], dtype: torch.dtype
) -> tuple[StackedLinear, StackedLinear]:
    """The shared MLP and each modality's expert as one MLP with the hidden channels of both. Fused ones share a norm."""
    experts = [one.expert for one in controllers if one.expert is not None]
    fc1, fc2 = shared.fc1, shared.fc2
    first = [(torch.cat((fc1.weight, e.fc1.weight)), torch.cat((fc1.bias, e.fc1.bias))) for e in experts]
    second = [(torch.cat((fc2.weight, e.fc2.weight), dim=1), fc2.bias + e.fc2.bias) for e in experts]
    # The one without effect: hidden channels of zeros.
    more = 0 if not experts else experts[0].fc1.out_features
    first.append((F.pad(fc1.weight, (0, 0, 0, more)), F.pad(fc1.bias, (0, more))))
    second.append((F.pad(fc2.weight, (0, more)), fc2.bias))
    return _stacked(first, dtype), _stacked(second, dtype)


def _stacked(layers: Sequence[tuple[Tensor, Tensor]], dtype: torch.dtype) -> StackedLinear:
    return StackedLinear([weight.to(dtype) for weight, _ in layers], [bias.to(dtype) for _, bias in layers])
