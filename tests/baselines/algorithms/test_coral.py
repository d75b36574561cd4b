"""CORAL: means and covariances of the deepest features."""

from __future__ import annotations

import pytest
import torch

from baselines.algorithms.base import Algorithm
from baselines.algorithms.coral import CORAL, distance
from tests.baselines.algorithms.toy import PlainMethod, Step, TokenMethod, disks, loss_of, make


def test_zero_for_equal_features_wherever_they_lie() -> None:
    features = torch.randn(2, 5, 4, 3)
    elsewhere = features.flatten(0, 2)[torch.randperm(40)].view(2, 5, 4, 3)
    assert distance(features, features).item() == 0
    assert distance(features, elsewhere).item() < 1e-12


def test_sees_mean_and_covariance_apart() -> None:
    x = torch.randn(50, 3)
    shifted, scaled = x + 2, (x - x.mean(0)) * 3 + x.mean(0)
    assert distance(x, shifted).item() == pytest.approx(4, rel=1e-4)
    assert distance(x, scaled).item() == pytest.approx((8 * x.T.cov()).square().mean().item(), rel=1e-4)


def test_penalty_is_the_mean_over_pairs_within_modalities() -> None:
    method = make(CORAL, weight=2.0)
    batch = disks(7, modality=[0] * 6 + [1], domain=[0, 0, 1, 1, 2, 2, 5])
    loss, parts = method.training_loss(batch, Step())
    features = method.method.late(method.method.early(batch.images)).movedim(1, -1)
    a, b, c = (features[batch.domain == domain] for domain in range(3))
    expected = (distance(a, b) + distance(a, c) + distance(b, c)) / 3
    torch.testing.assert_close(parts["penalty"], expected)
    torch.testing.assert_close(loss, method.method.training_loss(batch, Step())[0] + 2 * expected)


def test_tokens_have_their_channels_last() -> None:
    method, batch = make(CORAL, method=TokenMethod), disks(8)
    kept: list[torch.Tensor] = []
    handle = method.method.blocks[-1].register_forward_hook(lambda _, __, output: kept.append(output))
    _, parts = method.training_loss(batch, Step())
    handle.remove()
    tokens = [kept[0][batch.domain == domain] for domain in range(4)]
    expected = (distance(tokens[0], tokens[1]) + distance(tokens[2], tokens[3])) / 2
    torch.testing.assert_close(parts["penalty"], expected)


def test_training_brings_features_together_and_leaves_no_hook() -> None:
    batch, apart = disks(8, (16, 16)), []
    for weight in (0.0, 50.0):
        method = make(CORAL, weight=weight)
        optimizer = torch.optim.Adam(method.parameters(), 0.02)
        for _ in range(12):
            optimizer.zero_grad()
            loss_of(method, batch).backward()
            optimizer.step()
        method.weight = 1.0
        apart.append(method.training_loss(batch, Step())[1]["penalty"].item())
        assert not method.method.late._forward_hooks
    assert apart[1] < 0.5 * apart[0]


def test_weight_zero_is_erm_bit_by_bit() -> None:
    assert torch.equal(loss_of(make(CORAL, weight=0.0), disks(8)), loss_of(make(Algorithm), disks(8)))


def test_a_method_without_features() -> None:
    with pytest.raises(ValueError, match=r"CORAL needs the deepest features .* PlainMethod .* feature_layers\(\)"):
        make(CORAL, method=PlainMethod)
