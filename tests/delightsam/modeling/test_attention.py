"""Window attention beside a plain one that really pads, partitions and appends tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import profile

from delightsam.modeling.attention import WindowAttention
from delightsam.modeling.controllers import BlockController, Route
from delightsam.modeling.tiny_vit import AttentionBlock


def plain_attention(layer: WindowAttention, x: Tensor, controller: BlockController | None) -> Tensor:
    """One image (H, W, C): zeros added before the norm, every window by itself, every pair of tokens in a loop-free sum."""
    height, width, dim = x.shape
    w, heads = layer.window, layer.heads
    size = dim // heads
    padded = F.pad(x, (0, 0, 0, -width % w, 0, -height % w))
    out = torch.zeros_like(padded)
    cells = [(i, j) for i in range(w) for j in range(w)]
    bias = torch.stack(
        [torch.stack([layer.offset_bias[:, abs(a - c) * w + abs(b - d)] for c, d in cells], -1) for a, b in cells],
        1,
    )
    for top in range(0, padded.shape[0], w):
        for left in range(0, padded.shape[1], w):
            window = padded[top : top + w, left : left + w].reshape(w * w, dim)
            qkv = layer.qkv(layer.norm(window)).view(w * w, heads, 3, size)
            q, k, v = (qkv[:, :, i].transpose(0, 1) for i in range(3))
            scores = q @ k.transpose(1, 2) / size**0.5 + bias
            if controller is not None:
                tokens = controller.tokens()
                assert tokens is not None
                key, value, token_bias = tokens
                extra = q @ key.transpose(1, 2) / size**0.5 + token_bias
                scores, v = torch.cat((scores, extra), 2), torch.cat((v, value), 1)
            mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(w, w, dim)
            out[top : top + w, left : left + w] = mixed
    return layer.project(out[:height, :width])


def random_layer() -> tuple[WindowAttention, list[BlockController]]:
    """In float64, so that only a real difference shows."""
    torch.manual_seed(0)
    layer = WindowAttention(16, heads=2, window=4)
    controllers = [BlockController(16, 2, "tokens", tied=False) for _ in range(3)]
    with torch.no_grad():
        for module in (layer, *controllers):
            module.double()
            for parameter in module.parameters():
                parameter.normal_()
    return layer, controllers


SIZES = [(4, 4), (3, 3), (8, 8), (2, 4), (5, 7), (8, 6), (9, 3)]


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_equals_plain_attention(height: int, width: int, gradient: bool) -> None:
    layer, controllers = random_layer()
    x = torch.randn(4, height, width, 16, dtype=torch.float64)
    routes = [Route(controllers[0], 0, 1), Route(controllers[1], 1, 3), Route(controllers[2], 3, 4)]
    with torch.set_grad_enabled(gradient):
        ours = layer(x, routes)
        shared = layer(x)
        one = layer(x, [Route(controllers[1], 0, 4)])
        for found, given in ((ours, routes), (shared, ()), (one, [Route(controllers[1], 0, 4)])):
            torch.testing.assert_close(layer.whole(x, given), found)  # as a GPU computes it
    with torch.no_grad():
        for i, owner in enumerate((0, 1, 1, 2)):
            torch.testing.assert_close(ours[i].detach(), plain_attention(layer, x[i], controllers[owner]))
            torch.testing.assert_close(shared[i].detach(), plain_attention(layer, x[i], None))
            torch.testing.assert_close(one[i].detach(), plain_attention(layer, x[i], controllers[1]))


@pytest.mark.parametrize(("height", "width"), [(3, 3), (8, 6), (5, 7)])
def test_gradients_equal_plain_attention(height: int, width: int) -> None:
    layer, controllers = random_layer()
    x = torch.randn(4, height, width, 16, dtype=torch.float64)
    learning = [*layer.parameters(), *(parameter for one in controllers for parameter in one.parameters())]
    routes = [Route(controllers[0], 0, 1), Route(controllers[1], 1, 3), Route(controllers[2], 3, 4)]
    owners = [controllers[owner] for owner in (0, 1, 1, 2)]
    plain = torch.stack([plain_attention(layer, *pair) for pair in zip(x, owners, strict=True)])
    expected = torch.autograd.grad(plain.square().sum(), learning)
    for found in (layer(x, routes), layer.whole(x, routes)):
        torch.testing.assert_close(torch.autograd.grad(found.square().sum(), learning), expected)


@pytest.mark.parametrize("controllers", [0, 3])
def test_gradients_of_parts_are_put_together_not_added_up(controllers: int) -> None:
    """The gradient of a slice is a whole map of zeros: one for each region of a map that doesn't divide, for each controller."""
    block = AttentionBlock(dim=8, heads=2, window=4)
    block.attention.offset_bias.requires_grad_(False)  # whose parts are small
    routes = [Route(BlockController(8, 2), i, i + 1) for i in range(controllers)]
    x = torch.randn(3, 10, 9, 8, requires_grad=True)
    with profile() as looked:
        block(x, routes).sum().backward()
    assert "aten::slice_backward" not in {event.name for event in looked.events() or []}
