"""V-REx: the variance of the domains' losses."""

from __future__ import annotations

import pytest
import torch

from baselines.algorithms.base import Algorithm
from baselines.algorithms.vrex import VREx
from tests.baselines.algorithms.toy import PlainMethod, Step, disks, gradients, loss_of, make

LATE = Step(9, 10)


@pytest.mark.parametrize("batch", [disks(8), disks(4, modality=[0, 0, 1, 1], domain=[0, 0, 2, 2])])
def test_weight_zero_and_single_domains_are_erm_bit_by_bit(batch: object) -> None:
    one_domain_each = len(set(batch.domain.tolist())) == 2  # type: ignore[attr-defined]
    erm, vrex = make(Algorithm), make(VREx, weight=10.0 if one_domain_each else 0.0)
    losses = [loss_of(method, batch, step=LATE) for method in (erm, vrex)]
    for loss in losses:
        loss.backward()
    assert torch.equal(*losses)
    assert all(torch.equal(gradients(vrex)[name], value) for name, value in gradients(erm).items())


def test_penalty_is_the_mean_over_modalities_of_the_variance() -> None:
    method, batch = make(VREx, weight=3.0), disks(8)
    loss, parts = method.training_loss(batch, LATE)
    erm, each = method.method.losses_by_image(batch, LATE)
    domains = torch.stack([each[batch.domain == domain].mean() for domain in range(4)])
    expected = (((domains[0] - domains[1]) / 2) ** 2 + ((domains[2] - domains[3]) / 2) ** 2) / 2
    torch.testing.assert_close(parts["penalty"], expected)
    torch.testing.assert_close(loss, erm + 3 * expected)


def test_equal_losses_have_no_penalty() -> None:
    batch = disks(2, modality=[0, 0], domain=[0, 1])
    batch.images[1], batch.masks[1] = batch.images[0], batch.masks[0]
    _, parts = make(VREx).training_loss(batch, LATE)
    assert parts["penalty"] < 1e-12


def test_full_weight_after_a_share_of_the_steps() -> None:
    method = make(VREx, weight=10.0, warm_up=0.1)
    assert [method.weight_at(Step(index, 20)) for index in (0, 1, 2, 19)] == [1, 1, 10, 10]
    assert make(VREx, weight=0.5).weight_at(Step(0, 20)) == 0.5


def test_brings_the_losses_of_domains_together() -> None:
    batch = disks(4, (16, 16), modality=[0] * 4, domain=[0, 1] * 2)
    batch.images[batch.domain == 1] *= 0.1
    spread = []
    for weight in (0.0, 100.0):
        method = make(VREx, weight=weight, warm_up=0.0, method=PlainMethod)
        optimizer = torch.optim.Adam(method.parameters(), 0.05)
        for _ in range(20):
            optimizer.zero_grad()
            loss_of(method, batch).backward()
            optimizer.step()
        method.weight = 1.0
        spread.append(method.training_loss(batch, LATE)[1]["penalty"].item())
    assert spread[1] < 0.1 * spread[0]


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="VREx: expected weight of 0 or more, found -1"):
        make(VREx, weight=-1.0)
    with pytest.raises(ValueError, match="warm_up of 0 to 1, found 2"):
        make(VREx, warm_up=2.0)
