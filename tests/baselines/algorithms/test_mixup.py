from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from baselines.algorithms.mixup import Mixup
from delightsam.training.losses import JOINT_LOSSES
from tests.baselines.algorithms.toy import ToyMethod, disks, loss_of, make


def test_images_and_masks_are_mixed_with_the_same_weight() -> None:
    # Each image has one value, and its mask another that goes with it.
    batch = disks(6, (8, 8), modality=[0, 0, 0, 1, 1, 1])
    for i in range(6):
        batch.images[i], batch.masks[i] = i / 10, float(i % 2)
    batch.images[4:] = batch.images[3]  # so that the mixture reveals its partner in the first three only
    torch.manual_seed(0)
    changed = make(Mixup, alpha=1.0).changed(batch)
    for i in range(3):
        value, mask = changed.images[i, 0, 0, 0], changed.masks[i, 0, 0, 0]
        assert torch.allclose(changed.images[i], value) and torch.allclose(changed.masks[i], mask)
        fits = [
            torch.isclose(own * (i % 2) + (1 - own) * (other % 2), mask, atol=1e-5)
            for other in range(3)
            if other != i
            for own in [(value * 10 - other) / (i - other)]
            if -1e-5 <= own <= 1 + 1e-5
        ]
        assert any(fits)
    assert torch.allclose(changed.images[3:], batch.images[3:])  # of the other modality, nothing came over


def test_partners_are_of_any_domain() -> None:
    batch = disks(3, (4, 4), modality=[0, 0, 0], domain=[0, 0, 1])
    batch.images[0], batch.images[1], batch.images[2] = 0.5, 0.0, 1.0
    algorithm = make(Mixup, alpha=1.0)
    torch.manual_seed(0)
    values = torch.stack([algorithm.changed(batch).images[0].mean() for _ in range(30)])
    assert (values < 0.45).any() and (values > 0.55).any()  # of the own domain, and of the other


def test_values_stay_in_range_and_masks_get_soft() -> None:
    batch = disks(8)
    changed = make(Mixup, alpha=1.0).changed(batch)
    for values in (changed.images, changed.masks):
        assert values.min() >= 0 and values.max() <= 1
    assert ((changed.masks > 0.05) & (changed.masks < 0.95)).any()


def test_a_batch_of_one_and_probability_zero_change_nothing() -> None:
    batch, alone = disks(6), disks(1)
    changed = make(Mixup).changed(alone)
    torch.testing.assert_close(changed.images, alone.images)
    bare = make(lambda modalities, method: method(modalities=modalities))
    assert torch.equal(loss_of(make(Mixup, probability=0.0), batch), loss_of(bare, batch))


def test_cross_entropy_of_mixed_masks_is_the_mixture_of_cross_entropies() -> None:
    logits, masks = torch.randn(2, 1, 8, 8), (torch.rand(2, 1, 8, 8) > 0.5).float()
    mixed = F.binary_cross_entropy_with_logits(logits[0], 0.3 * masks[0] + 0.7 * masks[1])
    parts = [F.binary_cross_entropy_with_logits(logits[0], masks[i]) for i in range(2)]
    assert mixed.item() == pytest.approx((0.3 * parts[0] + 0.7 * parts[1]).item(), rel=1e-5)


@pytest.mark.parametrize("loss", JOINT_LOSSES)
def test_de_lightsam_s_losses_take_soft_masks(loss: str) -> None:
    """They lie between those of the two masks where the prediction is undecided, and are least at the soft mask itself."""
    masks = (torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    soft = 0.3 * masks[:1] + 0.7 * masks[1:]

    def value(probability: torch.Tensor) -> float:
        logits = probability.clamp(0.01, 0.99).logit()
        patches = F.max_pool2d(probability, 4).clamp(0.01, 0.99).logit()
        return JOINT_LOSSES[loss](logits, patches, soft)[0].item()

    assert value(soft) < value(1 - soft) and value(soft) < value(torch.full_like(soft, 0.5))


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"Mixup: expected probability of 0 to 1, found 1\.5"):
        make(Mixup, method=ToyMethod, probability=1.5)
    with pytest.raises(ValueError, match=r"Mixup: expected alpha of 0\.01 or more, found 0"):
        make(Mixup, alpha=0.0)
