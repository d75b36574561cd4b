"""Domains of a batch, their losses, and what is kept of each."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from baselines.algorithms.domains import comparable, domains_of, losses_by_domain
from baselines.algorithms.memory import DomainMemory
from tests.baselines.algorithms.toy import MODALITIES, PlainMethod, Step, ToyMethod, disks


def plain(groups: Any) -> dict[int, dict[int, list[int]]]:
    return {m: {d: rows.positions for d, rows in inside.items()} for m, inside in groups.items()}


def test_domains_lie_within_modalities() -> None:
    batch = disks(6, modality=[1, 0, 1, 0, 1, 0], domain=[3, 0, 2, 0, 3, 1])
    assert plain(domains_of(batch)) == {0: {0: [1, 3], 1: [5]}, 1: {2: [2], 3: [0, 4]}}


def test_only_two_domains_of_a_modality_can_be_compared() -> None:
    domains = domains_of(disks(5, modality=[0, 0, 0, 1, 1], domain=[0, 0, 1, 2, 2]))
    assert plain(comparable(domains)) == {0: {0: [0, 1], 1: [2]}}
    assert comparable(domains, images=2) == {}


def test_losses_come_from_one_pass_where_a_method_offers_it() -> None:
    method, batch = ToyMethod(MODALITIES), disks(6)
    passes: list[int] = []
    method.last.register_forward_hook(lambda *_: passes.append(1))
    loss, losses = losses_by_domain(method, batch, Step(), domains_of(batch))
    assert len(passes) == 1 and torch.equal(loss, method.training_loss(batch, Step())[0])
    _, each = method.losses_by_image(batch, Step())
    assert losses.keys() == {0, 1, 2, 3}
    for domain, value in losses.items():
        torch.testing.assert_close(value, each[batch.domain == domain].mean())


def test_losses_come_from_a_pass_per_domain_elsewhere() -> None:
    method, batch = PlainMethod(MODALITIES), disks(6)
    loss, losses = losses_by_domain(method, batch, Step(), domains_of(batch))
    for domain, value in losses.items():
        rows = (batch.domain == domain).nonzero()[:, 0]
        assert torch.equal(value, method.training_loss(batch.part(rows.tolist(), rows), Step())[0])
    torch.testing.assert_close(loss, method.training_loss(batch, Step())[0])
    assert loss.requires_grad


def test_memory_grows_and_takes_the_size_of_a_loaded_state() -> None:
    memory = DomainMemory(2)
    assert memory.read([3, 1]).tolist() == [[0, 0], [0, 0]] and memory.rows.shape == (4, 2)
    memory.write([3, 1], torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert memory.read([0, 1, 3]).tolist() == [[0, 0], [3, 4], [1, 2]]
    other = DomainMemory(2)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.rows, memory.rows)
    other.write([0], torch.ones(1, 2))
    assert memory.read([0]).tolist() == [[0, 0]]


def test_memory_of_another_width_is_refused() -> None:
    memory = DomainMemory(2)
    with pytest.raises(RuntimeError, match="Missing key"):
        memory.load_state_dict({})
