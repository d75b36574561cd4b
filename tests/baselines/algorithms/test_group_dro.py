"""GroupDRO: weights that grow where the loss is high."""

from __future__ import annotations

import math

import pytest
import torch

from baselines.algorithms.base import Algorithm
from baselines.algorithms.group_dro import GroupDRO
from tests.baselines.algorithms.toy import PlainMethod, disks, loss_of, make

BATCH = disks(8)


def weights(method: GroupDRO, domains: list[int]) -> torch.Tensor:
    return method.log_weights.read(domains)[:, 0].softmax(0)


def test_two_steps_by_hand() -> None:
    method = make(GroupDRO, step_size=0.5)
    logarithms = torch.zeros(4)
    for _ in range(2):
        _, each = method.method.losses_by_image(BATCH, None)
        losses = torch.stack([each[BATCH.domain == domain].mean() for domain in range(4)]).detach()
        logarithms = logarithms + 0.5 * losses
        q = torch.cat([logarithms[:2].softmax(0), logarithms[2:].softmax(0)])
        # Both modalities have half of the images.
        torch.testing.assert_close(loss_of(method, BATCH).detach(), (q * losses).sum() / 2)
    torch.testing.assert_close(weights(method, [0, 1]), q[:2])


def test_the_worst_domain_gets_all_the_weight_in_time() -> None:
    method = make(GroupDRO, step_size=1.0, method=PlainMethod)
    batch = disks(4, modality=[0] * 4, domain=[0, 0, 5, 5])
    batch.masks[2:] = 1 - batch.masks[2:]
    losses = [method.method.training_loss(part, None)[0].item() for part in batch.chunks(2)]
    for _ in range(30):
        loss = loss_of(method, batch)
    worst = 5 if losses[1] > losses[0] else 0
    gap = abs(losses[1] - losses[0])
    assert weights(method, [worst, 5 - worst])[0].item() == pytest.approx(1 / (1 + math.exp(-30 * gap)), abs=1e-4)
    assert loss.item() > sum(losses) / 2


def test_without_steps_and_with_balanced_domains_it_is_erm() -> None:
    torch.testing.assert_close(loss_of(make(GroupDRO, step_size=0.0), BATCH), loss_of(make(Algorithm), BATCH))


def test_a_domain_alone_is_erm_bit_by_bit_and_leaves_no_weight() -> None:
    batch = disks(4, modality=[0, 0, 1, 1], domain=[0, 0, 2, 2])
    method = make(GroupDRO)
    assert torch.equal(loss_of(method, batch), loss_of(make(Algorithm), batch))
    assert len(method.log_weights.rows) == 0


def test_weights_go_on_from_a_state() -> None:
    method, other = make(GroupDRO, step_size=1.0), make(GroupDRO, seed=1, step_size=1.0)
    for _ in range(3):
        loss_of(method, BATCH)
    other.load_state_dict(method.state_dict())
    assert torch.equal(weights(other, [0, 1]), weights(method, [0, 1])) and weights(other, [0, 1])[0] != 0.5
    assert torch.equal(loss_of(other, BATCH), loss_of(method, BATCH))
