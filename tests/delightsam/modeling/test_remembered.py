"""What is kept of weights is what would be computed anew: after every kind of change, and never where somebody looks on."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from delightsam.modeling.attention import WindowAttention
from delightsam.modeling.layers import ConvNorm
from delightsam.modeling.remembered import Remembered
from delightsam.modeling.tiny_vit import InvertedResidual


class Doubled:
    """Twice a tensor, remembered; counts how often it was computed."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.times, self.remembered = tensor, 0, Remembered[Tensor]()

    def __call__(self, key: str = "") -> Tensor:
        return self.remembered(key, [self.tensor], self._compute)

    def _compute(self) -> Tensor:
        self.times += 1
        return 2 * self.tensor


def test_computed_once_for_each_key() -> None:
    doubled = Doubled(torch.ones(3))
    assert torch.equal(doubled("a"), doubled("a")) and doubled.times == 1
    doubled("b")
    assert doubled.times == 2


def change_in_place(doubled: Doubled) -> None:
    doubled.tensor.add_(1)


def change_by_a_step(doubled: Doubled) -> None:
    parameter = nn.Parameter(doubled.tensor)
    parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD([parameter], lr=0.5).step()


def replace(doubled: Doubled) -> None:
    doubled.tensor = doubled.tensor + 1


def replace_the_memory(doubled: Doubled) -> None:
    doubled.tensor.data = doubled.tensor.data + 1


@pytest.mark.parametrize("change", [change_in_place, change_by_a_step, replace, replace_the_memory])
def test_computed_again_after_a_change(change: Callable[[Doubled], None]) -> None:
    doubled = Doubled(torch.ones(3))
    doubled()
    change(doubled)
    assert torch.equal(doubled(), 2 * doubled.tensor) and doubled.times == 2


def test_memory_given_back_is_not_taken_for_the_old() -> None:
    doubled = Doubled(torch.ones(1000))
    for value in range(50):
        doubled.tensor = torch.full((1000,), float(value))  # the old one's memory would be free for it
        assert torch.equal(doubled(), 2 * doubled.tensor)


def test_kept_in_inference_mode_is_of_use_in_training() -> None:
    doubled = Doubled(torch.ones(3))
    with torch.inference_mode():
        doubled()
    weight = torch.ones(3, requires_grad=True)
    (weight * doubled()).sum().backward()
    assert weight.grad is not None and torch.equal(weight.grad, 2 * doubled.tensor) and doubled.times == 1


def test_weights_made_in_inference_mode_are_not_kept() -> None:
    with torch.inference_mode():  # their changes leave no trace
        doubled = Doubled(torch.ones(3))
        doubled()
        doubled.tensor.add_(1)
        assert torch.equal(doubled(), 2 * doubled.tensor)


def test_every_pass_shows_its_operations_to_who_counts() -> None:
    doubled = Doubled(torch.ones(3))
    with FlopCounterMode(display=False):
        doubled(), doubled()
    assert doubled.times == 2


def test_tensors_without_values_are_not_kept() -> None:
    doubled = Doubled(torch.ones(3))
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert isinstance(doubled(), FakeTensor)
    assert torch.equal(doubled(), torch.full((3,), 2.0)) and not isinstance(doubled(), FakeTensor)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_start_empty(copied: Callable[[Remembered[Tensor]], Remembered[Tensor]]) -> None:
    doubled = Doubled(torch.ones(3))
    doubled()
    doubled.remembered = copied(doubled.remembered)
    doubled()
    assert doubled.times == 2


def changed_weights(module: nn.Module) -> list[Tensor]:
    tensors = [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]
    return [tensor for tensor in tensors if tensor.is_leaf]


@pytest.mark.parametrize("build", [lambda: InvertedResidual(4), lambda: WindowAttention(8, heads=2, window=4)])
@torch.no_grad()
def test_a_network_follows_each_of_its_weights(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    module = build().eval()
    x = torch.randn(1, 4, 6, 6) if isinstance(module, InvertedResidual) else torch.randn(1, 6, 6, 8)
    module(x)
    for tensor in changed_weights(module):
        tensor.mul_(1.5).add_(0.1)
        fresh = copy.deepcopy(module)
        assert torch.equal(module(x), fresh(x))


@torch.no_grad()
def test_a_convolution_is_folded_once_for_many_images() -> None:
    layer = ConvNorm(3, 4).eval()
    first = layer.folded(torch.float32)
    assert all(a is b for a, b in zip(first, layer.folded(torch.float32), strict=True))
    assert layer.folded(torch.float64)[0].dtype == torch.float64


def test_a_frozen_bias_is_laid_out_once_in_training_and_a_learning_one_gets_its_gradient() -> None:
    torch.manual_seed(0)
    layer = WindowAttention(8, heads=2, window=4)
    x = torch.randn(1, 6, 6, 8)
    layer.offset_bias.requires_grad_(False)
    assert layer._bias(4, 4) is layer._bias(4, 4)
    with torch.no_grad():
        layer.offset_bias.add_(1.5)
    frozen = layer(x)
    layer.offset_bias.requires_grad_(True)
    torch.testing.assert_close(frozen, layer(x), rtol=0, atol=0)
    layer(x).square().sum().backward()
    assert layer.offset_bias.grad is not None and layer.offset_bias.grad.abs().max() > 0
