from __future__ import annotations

import torch

from baselines.algorithms.draws import beta, chosen, partners, uniform
from tests.baselines.algorithms.toy import disks

CPU = torch.device("cpu")


def draws(batch: object, *, other_domain: bool) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.stack([partners(batch, other_domain=other_domain) for _ in range(200)])


def test_a_partner_is_any_other_image_of_the_modality() -> None:
    batch = disks(7, modality=[0, 0, 0, 1, 1, 1, 1], domain=[0, 0, 1, 2, 2, 3, 3])
    found = draws(batch, other_domain=False)
    for image in range(7):
        others = {i for i in range(7) if i != image and batch.modality[i] == batch.modality[image]}
        assert set(found[:, image].tolist()) == others


def test_a_partner_is_of_another_domain_where_there_is_one() -> None:
    batch = disks(6, modality=[0, 0, 0, 1, 1, 1], domain=[0, 0, 1, 2, 2, 2])
    found = draws(batch, other_domain=True)
    expected = [{2}, {2}, {0, 1}, {4, 5}, {3, 5}, {3, 4}]
    assert [set(found[:, image].tolist()) for image in range(6)] == expected


def test_who_is_alone_is_its_own_partner() -> None:
    batch = disks(3, modality=[0, 1, 1], domain=[0, 0, 1])
    for other_domain in (False, True):
        assert (draws(batch, other_domain=other_domain)[:, 0] == 0).all()


def test_partners_are_uniform() -> None:
    found = draws(disks(4, modality=[0] * 4, domain=[0] * 4), other_domain=False)[:, 0]
    counts = torch.bincount(found, minlength=4)
    assert counts[0] == 0 and (counts[1:] > 45).all()


def test_chosen_and_uniform() -> None:
    torch.manual_seed(0)
    assert not chosen(1000, 0.0, CPU).any() and chosen(1000, 1.0, CPU).all()
    assert 0.25 < chosen(1000, 0.3, CPU).float().mean() < 0.35
    values = uniform(1000, -2, 5, CPU)
    assert (
        values.shape == (1000, 1, 1, 1)
        and values.min() >= -2
        and values.max() < 5
        and values.mean().sub(1.5).abs() < 0.3
    )


def test_beta_also_of_small_alphas() -> None:
    torch.manual_seed(0)
    for alpha in (0.01, 0.1, 1.0):
        values = beta(4000, alpha, CPU)
        # Mean 1/2, variance 1 / (4 (2 alpha + 1)).
        assert values.dtype == torch.float32 and abs(values.mean().item() - 0.5) < 0.03
        assert abs(values.var().item() - 1 / (4 * (2 * alpha + 1))) < 0.01
