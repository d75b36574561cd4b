from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from baselines.algorithms.bigaug import BigAug, _blurred
from harness.config.yaml_tree import config_folder
from tests.baselines.algorithms.toy import disks, loss_of, make


def one(algorithm: Any, only: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chooses the transformation of this number (in the order of the draws) for all images, and no other."""
    count = iter(range(100))

    def chosen(images: int, probability: float, device: Any) -> Tensor:
        return torch.full((images, 1, 1, 1), next(count) == only)

    monkeypatch.setattr("baselines.algorithms.bigaug.chosen", chosen)


def test_masks_stay_0_or_1_and_images_in_range_and_both_change() -> None:
    batch = disks(16)
    torch.manual_seed(0)
    changed = make(BigAug, probability=1.0).changed(batch)
    assert set(changed.masks.unique().tolist()) == {0.0, 1.0} and changed.masks.shape == batch.masks.shape
    assert changed.images.min() >= 0 and changed.images.max() <= 1 and changed.images.isfinite().all()
    moved = (changed.masks != batch.masks).flatten(1).any(1)
    assert moved.all() and not torch.equal(changed.images, batch.images)


def test_images_and_masks_move_together(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = disks(16, (48, 48))
    batch.images[:] = 0.2 + 0.6 * batch.masks
    algorithm = make(BigAug, probability=1.0)
    for transformation in (6, 7, 8):
        one(algorithm, transformation, monkeypatch)
        changed = algorithm.changed(batch)
        agree = ((changed.images[:, :1] > 0.5) == (changed.masks > 0.5)).float().mean()
        assert agree > 0.99
        assert not torch.equal(changed.masks, batch.masks)


@pytest.mark.parametrize("transformation", range(6))
def test_changes_of_quality_and_appearance_leave_masks_bit_for_bit(
    transformation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, algorithm = disks(6, (33, 40)), make(BigAug, probability=1.0)
    one(algorithm, transformation, monkeypatch)
    changed = algorithm.changed(batch)
    assert torch.equal(changed.masks, batch.masks)
    assert ((changed.images - batch.images).abs().amax((1, 2, 3)) > 1e-3).all()


def test_what_is_not_chosen_changes_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, algorithm = disks(6, (33, 40)), make(BigAug)
    one(algorithm, -1, monkeypatch)
    changed = algorithm.changed(batch)
    torch.testing.assert_close(changed.images, batch.images, atol=1e-5, rtol=0)
    assert torch.equal(changed.masks, batch.masks)


def test_each_transformation_falls_on_half_of_the_images() -> None:
    algorithm, images = make(BigAug), torch.zeros(2000, 1, 1, 1)
    torch.manual_seed(0)
    amounts = algorithm._amount(images, 0.5, 4.5, 1.0)
    changed = amounts[amounts != 1.0]
    assert 0.45 < len(changed) / 2000 < 0.55
    assert changed.min() >= 0.5 and changed.max() < 4.5 and abs(changed.mean().item() - 2.5) < 0.15


def test_brightness_is_a_shift_within_a_tenth_of_the_standard_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, algorithm = disks(16), make(BigAug)
    batch.images.mul_(0.5).add_(0.25)  # nothing is clipped
    one(algorithm, 3, monkeypatch)
    shift = (algorithm.changed(batch).images - batch.images) / batch.images.std((1, 2, 3), keepdim=True)
    assert torch.allclose(shift, shift.mean((1, 2, 3), keepdim=True), atol=1e-4)
    assert shift.abs().max() <= 0.1001 and shift.mean((1, 2, 3)).std() > 0.02


def test_gamma_keeps_minimum_maximum_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, algorithm = disks(4), make(BigAug)
    one(algorithm, 4, monkeypatch)
    changed = algorithm.changed(batch).images
    torch.testing.assert_close(changed.amax((1, 2, 3)), batch.images.amax((1, 2, 3)))
    torch.testing.assert_close(changed.amin((1, 2, 3)), batch.images.amin((1, 2, 3)))
    for before, after in zip(batch.images.flatten(1), changed.flatten(1), strict=True):
        assert (after[before.argsort()].diff() >= -1e-5).all()


def test_rotation_and_scale_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dot away from the centre turns by the angle, and goes away from it by the scale."""
    batch, algorithm = disks(2, (65, 65)), make(BigAug)
    batch.masks.zero_()
    batch.masks[:, :, 30:35, 44:49] = 1  # 14 px to the right of the centre (32, 32)
    constants = {0: math.pi / 9, 1: 1.5}  # of the draws for places, the first two
    for only, value in constants.items():
        one(algorithm, only, monkeypatch)
        monkeypatch.setattr(
            "baselines.algorithms.bigaug.uniform", lambda n, a, b, d, v=value: torch.full((n, 1, 1, 1), v)
        )
        place = algorithm._moved(batch.images, batch.masks)[1][0, 0].nonzero().float().mean(0) - 32
        expected = [-14 * math.sin(value), 14 * math.cos(value)] if only == 0 else [0.0, 21.0]
        torch.testing.assert_close(place, torch.tensor(expected), atol=0.6, rtol=0)


def test_displacements_are_smooth_and_a_few_pixels() -> None:
    algorithm = make(BigAug, probability=1.0)
    torch.manual_seed(0)
    shift = algorithm._displacement(torch.zeros(64, 3, 96, 96))
    # 1000 x 0.577 / (2 sqrt(pi) 10)^1.5 is 2.7 px at most (one standard deviation), half of it in the mean.
    assert 0.6 < shift.std() < 1.6
    steps = shift.diff(dim=3).std() / shift.std()
    assert steps < 1 / 10, "neighbours move alike: over some 10 px"


def test_blur_by_hand_and_none() -> None:
    images, sigma = torch.rand(2, 3, 21, 21), torch.tensor([0.0, 1.2]).view(2, 1, 1, 1)
    blurred = _blurred(images, sigma)
    assert torch.equal(blurred[0], images[0])
    dot = torch.zeros(1, 1, 21, 21)
    dot[..., 10, 10] = 1
    spread = _blurred(dot, torch.full((1, 1, 1, 1), 1.2))[0, 0]
    x = torch.arange(21) - 10.0
    assert spread.sum().item() == pytest.approx(1, abs=1e-5)
    assert (spread.sum(0) * x**2).sum().sqrt().item() == pytest.approx(1.2, abs=0.02)


def test_probability_zero_is_the_method_alone() -> None:
    bare = make(lambda modalities, method: method(modalities=modalities))
    assert torch.equal(loss_of(make(BigAug, probability=0.0), disks(6)), loss_of(bare, disks(6)))


def test_a_flat_image_stays_finite() -> None:
    batch = disks(4)
    batch.images[:] = 0.0
    for seed in range(5):
        torch.manual_seed(seed)
        assert make(BigAug, probability=1.0).changed(batch).images.isfinite().all()


def test_it_stands_in_the_place_of_the_bench_s_augmentation() -> None:
    content = yaml.safe_load((config_folder() / "algorithm" / "bigaug.yaml").read_text("utf-8"))
    assert content["training"] == {"augmentation": "none"}
