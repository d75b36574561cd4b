"""Faster ways on a CPU. For inference: fused kernels, and work in pieces that stay in the cache. For training: a layout.

PyTorch gives float32 linear layers and 1x1 convolutions to MKL, which on processors not made by Intel runs at less than
half the speed of oneDNN (on one core of an AMD EPYC 9005: 110 against 245 GFLOP/s), and every GELU and every sum goes to
memory and back. The operators used here are the ones that `torch.compile` writes for such patterns: oneDNN, with the GELU
or the sum inside the kernel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

_DTYPES = (torch.float32, torch.bfloat16)
_TOKENS_PER_THREAD = 2048


def fast_path(x: Tensor) -> bool:
    """Whether a forward pass of `x` may leave PyTorch's own operators: on a CPU, not where gradients are recorded."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not is_watched()


def learns_on_cpu(x: Tensor) -> bool:
    """Whether a forward pass of `x` records gradients on a CPU, and may do so with other operators than the layers name."""
    return x.device.type == "cpu" and torch.is_grad_enabled() and not is_watched()


def is_watched() -> bool:
    """Whether somebody looks at the operations: counting, tracing, export, `torch.compile`. They know PyTorch's own operators only, and
    want every layer in one piece."""
    return torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type in which a convolution or a linear layer of `x` runs: that of autocast where it is on, else its own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def tokens_at_once() -> int:
    """So many tokens pass an MLP together: enough for a full-speed product, few enough for the cache."""
    return _TOKENS_PER_THREAD * torch.get_num_threads()


def linear(x: Tensor, weight: Tensor, bias: Tensor, *, gelu: bool = False, add: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias`, then GELU; or plus a tensor of the result's shape. x: (..., in) -> (..., out)."""
    dtype = compute_dtype(x)
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    if _has_onednn(dtype):
        if add is not None and add.dtype == dtype:
            return torch.ops.mkldnn._linear_pointwise.binary(x, add, weight, bias, "add")
        y = torch.ops.mkldnn._linear_pointwise(x, weight, bias, *_then(gelu))
    else:
        y = F.linear(x, weight, bias)
        y = F.gelu(y) if gelu else y
    return y if add is None else add + y


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: tuple[int, int], groups: int, *, gelu: bool = False
) -> Tensor:
    """A convolution with (row, column) padding, then GELU. All tensors of one type; x: (B, in, H, W)."""
    if _has_onednn(x.dtype):
        place = (padding, (stride, stride), (1, 1), groups)
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *place, *_then(gelu))
    y = F.conv2d(x, weight, bias, stride, padding, 1, groups)
    return F.gelu(y) if gelu else y


def learning_convolution(x: Tensor, conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`conv` of x (B, in, H, W) with this weight and bias, with gradients.

    A 1x1 convolution runs as a linear layer of the pixels. PyTorch's own copies the map first where one thread has less than 16
    images, and its result lies channels first, in which depthwise convolutions take three times as long.
    """
    if conv.kernel_size == (1, 1) and conv.stride == (1, 1):
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v for q (..., N, d), k and v (..., M, d) and a bias that broadcasts to (..., N, M).

    Spelled out where PyTorch's own function is slower: with a bias that learns it falls back to these same steps, and in
    bfloat16 on a CPU its kernels take up to four times as long.
    """
    learns = bias is not None and torch.is_grad_enabled()
    if q.is_cuda or (q.dtype != torch.bfloat16 and not learns):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return (scores if bias is None else scores + bias).softmax(-1) @ v


def _then(gelu: bool) -> tuple[str, list[float], str]:
    return "gelu" if gelu else "none", [], "none"  # the last word: GELU by erf, not by tanh


def _has_onednn(dtype: torch.dtype) -> bool:
    if dtype not in _DTYPES or not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    # A processor without the instructions for it gets an error of oneDNN, where PyTorch's own operators emulate.
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
