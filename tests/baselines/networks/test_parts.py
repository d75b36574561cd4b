"""The parts around every network: normalisation, batch norm, loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from baselines.losses import bce_dice, soft_dice
from baselines.networks.base import SafeBatchNorm2d
from baselines.networks.smp import SmpNetwork
from tests.baselines.networks.nets import MODALITIES


def test_normalisation_is_by_imagenet_and_not_part_of_the_weights() -> None:
    method = SmpNetwork(MODALITIES)
    assert not {"mean", "std"} & method.state_dict().keys()
    seen: list[Tensor] = []
    method.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    grey = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    method.eval().predict(grey, torch.zeros(1, dtype=torch.int64))
    method.eval().predict(torch.ones(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64))
    assert torch.allclose(seen[0], torch.zeros(1), atol=1e-6)
    assert torch.allclose(
        seen[1][0, :, 0, 0], torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    )


def test_safe_batch_norm_is_batch_norm_wherever_that_works() -> None:
    plain, safe = nn.BatchNorm2d(4), SafeBatchNorm2d(4)
    for shape in [(2, 4, 1, 1), (1, 4, 1, 2), (3, 4, 5, 5)]:
        x = torch.randn(shape)
        assert torch.equal(plain(x), safe(x))
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), safe.state_dict().values(), strict=True))


def test_safe_batch_norm_of_one_value_uses_running_statistics_and_leaves_them() -> None:
    safe = SafeBatchNorm2d(4)
    safe(torch.randn(8, 4, 3, 3) * 2 + 1)
    before = {key: value.clone() for key, value in safe.state_dict().items()}
    x = torch.randn(1, 4, 1, 1, requires_grad=True)
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm2d(4)(x)
    y = safe(x)
    assert torch.equal(y, safe.eval()(x))
    y.sum().backward()
    assert x.grad is not None and x.grad.all()
    assert all(torch.equal(before[key], value) for key, value in safe.state_dict().items())


def test_soft_dice_by_hand() -> None:
    sure = torch.tensor([[[[30.0, 30.0], [-30.0, -30.0]]], [[[-30.0, -30.0], [-30.0, -30.0]]]])
    masks = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    # First image: 1 - (2 x 1 + 1) / (2 + 1 + 1); second, empty and rightly so: 0. Their mean.
    assert soft_dice(sure, masks).item() == pytest.approx((0.25 + 0) / 2, abs=1e-6)


def test_the_loss_is_float32_under_autocast_however_many_pixels() -> None:
    logits = torch.zeros(1, 1, 512, 512, dtype=torch.bfloat16)
    masks = torch.ones(1, 1, 512, 512)
    with torch.autocast("cpu", torch.bfloat16):
        loss, parts = bce_dice(logits, masks)
    expected = 1 - (512**2 + 1) / (1.5 * 512**2 + 1)
    assert loss.dtype == torch.float32
    assert parts["dice"].item() == pytest.approx(expected, abs=1e-6)
    assert parts["bce"].item() == pytest.approx(0.693147, abs=1e-6)
