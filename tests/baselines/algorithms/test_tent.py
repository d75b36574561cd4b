"""TENT: the entropy falls, by scales and shifts alone, and everything is forgotten."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from baselines.algorithms.tent import TENT, entropy
from tests.baselines.algorithms.toy import TokenMethod, disks, loss_of, make

BATCH = disks(4)


def adapting(**settings: Any) -> Any:
    method = make(TENT, **settings)
    for seed in range(3):
        loss_of(method, disks(6, seed=seed))
    return method.eval().requires_grad_(False)


def test_entropy_by_hand() -> None:
    probability = torch.tensor([0.5, 0.1])
    expected = (math.log(2) - 0.1 * math.log(0.1) - 0.9 * math.log(0.9)) / 2
    assert entropy(probability.logit()).item() == pytest.approx(expected, abs=1e-6)
    assert entropy(torch.tensor([200.0, -200.0])).item() == 0


def test_three_batches_as_by_the_paper_s_recipe() -> None:
    method, batches = adapting(learning_rate=0.01), [disks(4, seed=seed) for seed in range(3)]
    reference = copy.deepcopy(method.method).train()
    norms = [m for m in reference.modules() if isinstance(m, nn.BatchNorm2d)]
    parameters = [p.requires_grad_() for norm in norms for p in norm.parameters()]
    optimizer = torch.optim.Adam(parameters, 0.01)
    for batch in batches:
        expected = reference.predict(batch.images, batch.modality)
        optimizer.zero_grad()
        entropy(expected).backward()
        optimizer.step()
        found = method.predict_adapting(batch.images, batch.modality)
        torch.testing.assert_close(found, expected.detach(), atol=1e-4, rtol=1e-4)
    assert {name.rpartition(".")[0] for name in method._adapted} == {"early.1", "late.1"}


def test_entropy_falls_with_the_batches() -> None:
    method = adapting(learning_rate=0.01)
    values = [entropy(method.predict_adapting(BATCH.images, BATCH.modality)).item() for _ in range(20)]
    assert values[-1] < 0.95 * values[0]


def test_the_method_s_own_weights_and_statistics_stay_all_along() -> None:
    method = adapting()
    state = copy.deepcopy(method.state_dict())
    plain = method.predict(BATCH.images, BATCH.modality)
    first = method.predict_adapting(BATCH.images, BATCH.modality)
    second = method.predict_adapting(BATCH.images, BATCH.modality)
    assert not torch.equal(first, second)
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
    assert torch.equal(method.predict(BATCH.images, BATCH.modality), plain)
    method.reset_adaptation()
    assert torch.equal(method.predict_adapting(BATCH.images, BATCH.modality), first)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in method.parameters())


def test_learns_from_images_of_inference_mode_and_under_autocast() -> None:
    method = adapting()
    expected = method.predict_adapting(BATCH.images, BATCH.modality)
    method.reset_adaptation()
    with torch.inference_mode():
        images, modality = BATCH.images * 1, BATCH.modality * 1
        assert torch.equal(method.predict_adapting(images, modality), expected)
    with torch.autocast("cpu", torch.bfloat16):
        logits = method.predict_adapting(BATCH.images, BATCH.modality)
    assert logits.isfinite().all() and not logits.requires_grad


def test_layer_norm_learns_where_there_is_no_batch_norm() -> None:
    method = adapting(method=TokenMethod, learning_rate=0.01)
    values = [entropy(method.predict_adapting(BATCH.images, BATCH.modality)).item() for _ in range(10)]
    assert values[-1] < values[0]
