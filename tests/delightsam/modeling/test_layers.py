"""A convolution with BatchNorm learns on a CPU by other operators than its two layers name: outputs and gradients are theirs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import profile

from delightsam.modeling.layers import ConvNorm
from delightsam.modeling.tiny_vit import ConvStage

SHAPES: dict[str, dict[str, Any]] = {
    "pixels": {"kernel": 1},
    "pixels, stride 2": {"kernel": 1, "stride": 2},
    "3x3": {"kernel": 3},
    "depthwise, stride 2": {"kernel": 3, "stride": 2, "groups": 4},
}


def a_layer(**settings: Any) -> ConvNorm:
    """With statistics, factors and offsets that are not those of a new one; float64."""
    layer = ConvNorm(4, 8, **settings).double()
    for tensor in (*layer.norm.parameters(), *layer.norm.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
    return layer


def outcome(layer: ConvNorm, x: Tensor, forward: Any) -> list[Tensor]:
    """What `forward` gives, and the gradients of x and of all weights."""
    x = x.clone().requires_grad_()
    out = forward(x)
    return [out, *torch.autograd.grad(out.square().sum() + out.sin().sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize("training", [True, False], ids=["own statistics", "fixed statistics"])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_gradients_and_statistics_of_the_two_layers(shape: str, training: bool) -> None:
    layer = a_layer(**SHAPES[shape]).train(training)
    other = copy.deepcopy(layer)
    x = torch.randn(3, 4, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(outcome(layer, x, layer), outcome(other, x, lambda x: other.norm(other.conv(x))))
    torch.testing.assert_close(list(layer.buffers()), list(other.buffers()))


def test_a_fused_layer_learns_too() -> None:
    layer = a_layer(kernel=1).eval()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    expected = layer(x)
    layer.fuse()
    torch.testing.assert_close(layer(x.requires_grad_()), expected)


@pytest.mark.parametrize("training", [True, False])
def test_a_stage_learns_without_slow_convolutions_and_copies_of_its_maps(training: bool) -> None:
    """On one thread PyTorch's own 1x1 convolution gathers columns; depthwise convolutions are fast where channels lie last."""
    stage = ConvStage(0).train(training)
    x = torch.randn(1, 64, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
    with profile(record_shapes=True) as looked:
        out = stage(x, lambda module, x: module(x))
        out.sum().backward()
    events = looked.events() or []
    assert not [event.name for event in events if "slow_conv2d" in event.name]
    assert out.is_contiguous(memory_format=torch.channels_last)
    whole = [event for event in events if event.name == "aten::copy_" and event.input_shapes[0] == [1, 256, 16, 16]]
    assert not whole
