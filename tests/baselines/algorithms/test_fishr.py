"""Fishr: the variance of gradients in each domain."""

from __future__ import annotations

import pytest
import torch

from baselines.algorithms.base import Algorithm
from baselines.algorithms.fishr import Fishr, gradients_by_image
from tests.baselines.algorithms.toy import PlainMethod, Step, TokenMethod, disks, gradients, loss_of, make

LATE = Step(9, 10)
BATCH = disks(8)


def one_by_one(method: Fishr, batch: object) -> torch.Tensor:
    """(B, P): each image's gradient, from a backward pass of its own."""
    _, losses = method.method.losses_by_image(batch, LATE)
    parameters = list(method.method.last.parameters())
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
    return torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])


def test_gradients_are_those_of_each_image_alone() -> None:
    method = make(Fishr)
    _, losses = method.method.losses_by_image(BATCH, LATE)
    found = gradients_by_image(losses, list(method.method.last.parameters()), create_graph=False)
    torch.testing.assert_close(found, one_by_one(method, BATCH), atol=1e-7, rtol=1e-4)


def test_penalty_by_hand_smoothed_over_two_steps() -> None:
    method = make(Fishr, weight=5.0, ema=0.8)
    smooth = torch.zeros(4, 9)
    for _ in range(2):
        each = one_by_one(method, BATCH)
        now = torch.stack([each[BATCH.domain == domain].var(0, correction=0) for domain in range(4)])
        smooth = 0.8 * smooth + 0.2 * now
        apart = [(v - v.mean(0)).square().mean() / 0.2**2 for v in (smooth[:2], smooth[2:])]
        loss, parts = method.training_loss(BATCH, LATE)
        torch.testing.assert_close(parts["penalty"], (apart[0] + apart[1]) / 2, atol=0, rtol=1e-3)
        torch.testing.assert_close(loss.detach(), parts["method"] + 5 * parts["penalty"])
    torch.testing.assert_close(method.variances.rows, smooth, atol=1e-9, rtol=1e-3)


def test_domains_that_vary_alike_have_no_penalty() -> None:
    batch = disks(4, modality=[0] * 4, domain=[0, 0, 1, 1])
    batch.images[2:], batch.masks[2:] = batch.images[:2], batch.masks[:2]
    _, parts = make(Fishr).training_loss(batch, LATE)
    assert parts["penalty"].item() < 1e-15


def test_the_penalty_teaches_the_encoder_too() -> None:
    found = {}
    for weight in (0.0, 1000.0):
        method = make(Fishr, weight=weight)
        loss_of(method, BATCH, step=LATE).backward()
        found[weight] = gradients(method)
    assert any(not torch.equal(found[0.0][name], found[1000.0][name]) for name in found[0.0] if "early" in name)


def test_warming_up_is_erm_bit_by_bit_and_fills_the_variances() -> None:
    method = make(Fishr, warm_up=0.3)
    assert [method.weight_at(Step(index, 10)) for index in (0, 2, 3)] == [0, 0, 1000]
    loss = loss_of(method, BATCH)
    assert torch.equal(loss, loss_of(make(Algorithm), BATCH))
    assert method.variances.rows.shape == (4, 9) and (method.variances.rows > 0).all()
    loss.backward()
    erm = make(Algorithm)
    loss_of(erm, BATCH).backward()
    assert all(torch.equal(gradients(method)[name], value) for name, value in gradients(erm).items())


def test_single_images_and_a_frozen_head_give_no_penalty() -> None:
    method = make(Fishr)
    _, parts = method.training_loss(disks(2, modality=[0, 0], domain=[0, 1]), LATE)
    assert parts["penalty"] == 0
    method.method.last.requires_grad_(False)
    loss, parts = method.training_loss(BATCH, LATE)
    assert parts["penalty"] == 0 and loss.requires_grad


def test_methods_that_lack_something() -> None:
    with pytest.raises(ValueError, match=r"Fishr needs the last layer, and PlainMethod .* head\(\)"):
        make(Fishr, method=PlainMethod)

    class WithHead(TokenMethod):
        def head(self) -> torch.nn.Module:
            return self.last

    with pytest.raises(ValueError, match=r"losses of single images .* losses_by_image\(\)"):
        make(Fishr, method=WithHead)
