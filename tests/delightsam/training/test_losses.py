from __future__ import annotations

import math

import pytest
import torch

from delightsam.training.losses import JOINT_LOSSES, bce_loss, focal_loss, patch_target, soft_dice_loss


def two_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities 0.5 everywhere; image 0 has 4 of 4 pixels set, image 1 has none."""
    target = torch.zeros(2, 1, 2, 2)
    target[0] = 1
    return torch.zeros(2, 1, 2, 2), target


def test_soft_dice_by_hand() -> None:
    logits, target = two_images()
    # Over the batch: overlap 2, sums 4 and 4.
    assert soft_dice_loss(logits, target).item() == pytest.approx(1 - (2 * 2 + 1) / (4 + 4 + 1))
    # Per image: (2 * 2 + 1) / (2 + 4 + 1) and (0 + 1) / (2 + 0 + 1).
    expected = 1 - (5 / 7 + 1 / 3) / 2
    assert soft_dice_loss(logits, target, per_image=True).item() == pytest.approx(expected)


def test_perfect_prediction_costs_nothing() -> None:
    _, target = two_images()
    logits = (target * 2 - 1) * 50
    for loss in JOINT_LOSSES.values():
        total, _ = loss(logits, torch.tensor([[[[50.0]]], [[[-50.0]]]]), target)
        assert total.item() == pytest.approx(0, abs=1e-6)


def test_focal_is_on_the_mean_bce() -> None:
    bce = bce_loss(*two_images())
    assert bce.item() == pytest.approx(math.log(2))
    assert focal_loss(bce).item() == pytest.approx(0.8 * 0.25 * math.log(2))


def test_patch_target_takes_any_foreground() -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[0, 0, 33, 5] = 1
    assert patch_target(mask, (2, 2)).flatten().tolist() == [0, 0, 1, 0]
    with pytest.raises(ValueError, match="64 x 64 pixels does not divide into 3 x 3"):
        patch_target(mask, (3, 3))


def test_weights_of_the_joint_losses() -> None:
    logits, target = two_images()
    patches = torch.zeros(2, 1, 1, 1)
    ln2 = math.log(2)
    total, terms = JOINT_LOSSES["dice_bce"](logits, patches, target)
    assert total.item() == pytest.approx(1 - (5 / 7 + 1 / 3) / 2 + ln2 + 0.5 * ln2)
    assert set(terms) == {"dice", "bce", "patch"}
    total, terms = JOINT_LOSSES["paper"](logits, patches, target)
    assert total.item() == pytest.approx(0.8 * (4 / 9) + 0.2 * (0.2 * ln2) + 0.5 * ln2)
    assert set(terms) == {"dice", "focal", "patch"}


def test_losses_stay_in_float32() -> None:
    logits, target = two_images()
    total, _ = JOINT_LOSSES["dice_bce"](logits.bfloat16(), torch.zeros(2, 1, 1, 1).bfloat16(), target)
    assert total.dtype == torch.float32


def test_without_patch_logits_the_loss_has_no_patch_term() -> None:
    logits, target = two_images()
    for loss in JOINT_LOSSES.values():
        whole, terms = loss(logits, torch.zeros(2, 1, 1, 1), target)
        bare, rest = loss(logits, None, target)
        assert bare.item() == pytest.approx(whole.item() - 0.5 * math.log(2))
        assert set(terms) - set(rest) == {"patch"}
