from __future__ import annotations

import pytest
import torch
from torch import Tensor

from baselines.algorithms.gin_ipa import GINIPA, _spline, blending_map, global_intensity
from baselines.losses import bce_dice
from tests.baselines.algorithms.toy import Step, disks, loss_of, make

CPU = torch.device("cpu")


def test_gin_keeps_each_image_s_norm() -> None:
    images = torch.randn(5, 3, 20, 23)
    changed = global_intensity(images, 4)
    torch.testing.assert_close(changed.flatten(1).norm(dim=1), images.flatten(1).norm(dim=1), rtol=1e-4, atol=0)
    assert changed.shape == images.shape and not torch.allclose(changed, images, atol=0.1)


def test_each_image_goes_through_a_network_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    same = torch.randn(1, 3, 16, 16).repeat(4, 1, 1, 1)
    changed = global_intensity(same, 4)
    for i in range(4):
        for j in range(i):
            assert (changed[i] - changed[j]).abs().max() > 0.01
    # And of no other image: the first one's result does not change with the second.
    pair = torch.randn(2, 3, 16, 16)
    other = torch.stack([pair[0], torch.randn(3, 16, 16)])
    results: list[Tensor] = []
    for images in (pair, other):
        torch.manual_seed(0)
        results.append(global_intensity(images, 4)[0])
    torch.testing.assert_close(*results)


def test_gin_is_local_and_not_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four layers of kernels up to 3 reach at most four pixels far."""
    monkeypatch.setattr("baselines.algorithms.gin_ipa._norm", lambda images: torch.ones(len(images), 1, 1, 1))
    images = torch.randn(1, 3, 31, 31)
    touched = images.clone()
    touched[..., 15, 15] += 1
    results = []
    for x in (images, touched, 2 * images, torch.zeros_like(images)):
        torch.manual_seed(3)
        results.append(global_intensity(x, 4))
    rows = (results[0] - results[1]).abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows.min() >= 11 and rows.max() <= 19
    assert not torch.allclose(results[2] - results[3], 2 * (results[0] - results[3]), atol=1e-2)


def test_the_spline_s_weights_are_those_of_quadratic_b_splines() -> None:
    weights = _spline(192, CPU)
    torch.testing.assert_close(weights.sum(1), torch.ones(192))
    assert (weights >= 0).all() and (weights > 0).sum(1).max() <= 3
    # On a control point 1/8, 3/4, 1/8; the pixel next to it is within half a pixel, 1/96 of the spacing.
    pixel = int(weights[:, 2].argmax())
    torch.testing.assert_close(weights[pixel, 1:4], torch.tensor([0.125, 0.75, 0.125]), atol=0.01, rtol=0)


def test_blending_maps_are_smooth_from_0_to_1_and_differ() -> None:
    maps = blending_map(6, 96, 80, CPU)
    assert maps.shape == (6, 1, 96, 80)
    assert torch.equal(maps.amin((1, 2, 3)), torch.zeros(6)) and torch.allclose(maps.amax((1, 2, 3)), torch.ones(6))
    assert maps.diff(dim=2).abs().max() < 0.15 and maps.diff(dim=3).abs().max() < 0.15
    assert (maps[0] - maps[1]).abs().max() > 0.1


def test_two_views_are_blended_each_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, batch = make(GINIPA), disks(4)
    gin: list[Tensor] = []
    maps: list[Tensor] = []

    def global_intensity_(images: Tensor, layers: int) -> Tensor:
        gin.append(global_intensity(images, layers))
        return gin[-1]

    def blending_map_(*arguments: object) -> Tensor:
        maps.append(blending_map(*arguments))  # type: ignore[arg-type]
        return maps[-1]

    monkeypatch.setattr("baselines.algorithms.gin_ipa.global_intensity", global_intensity_)
    monkeypatch.setattr("baselines.algorithms.gin_ipa.blending_map", blending_map_)
    views = algorithm.views(batch.images)
    mean, std = batch.images.mean((1, 2, 3), keepdim=True), batch.images.std((1, 2, 3), keepdim=True)
    b = maps[0]
    expected = [gin[0] * b + gin[1] * (1 - b), gin[0] * (1 - b) + gin[1] * b, gin[2]]
    for view, value in zip(views, expected, strict=True):
        torch.testing.assert_close((view - mean) / std, value, atol=2e-3, rtol=1e-3)


def test_the_loss_is_that_of_the_first_view_and_the_divergence_of_all_three() -> None:
    algorithm, batch = make(GINIPA).eval(), disks(4)  # in eval mode the batches don't matter
    torch.manual_seed(5)
    logits = torch.stack([algorithm.predict(view, batch.modality) for view in algorithm.views(batch.images)])
    p = torch.stack([logits, -logits]).sigmoid()
    m = p.mean(1, keepdim=True)
    divergence = (m * (m / p).log()).mean()  # over classes, views and pixels
    torch.manual_seed(5)
    loss, parts = algorithm.training_loss(batch, Step())
    expected = bce_dice(logits[0], batch.masks)[0] + 10 * divergence
    torch.testing.assert_close(loss, expected)
    weight = algorithm.method.last.weight
    torch.testing.assert_close(torch.autograd.grad(loss, weight), torch.autograd.grad(expected, weight))
    torch.testing.assert_close(parts["consistency"], divergence)


def test_probability_zero_is_the_method_alone_and_half_changes_half_of_the_images() -> None:
    batch = disks(40)
    bare = make(lambda modalities, method: method(modalities=modalities))
    assert torch.equal(loss_of(make(GINIPA, probability=0.0), batch), loss_of(bare, batch))
    torch.manual_seed(0)
    views = make(GINIPA, probability=0.5).views(batch.images)
    same = [(view == batch.images).flatten(1).all(1) for view in views]
    assert 10 <= same[0].sum() <= 30 and torch.equal(same[0], same[1]) and torch.equal(same[0], same[2])


def test_a_flat_image_and_a_tiny_one_stay_finite() -> None:
    algorithm = make(GINIPA)
    for images in (torch.zeros(2, 3, 16, 16), torch.rand(2, 3, 1, 1), torch.rand(1, 3, 5, 3)):
        assert all(view.isfinite().all() for view in algorithm.views(images))
