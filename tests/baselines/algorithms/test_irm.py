"""IRMv1: the derivative of each domain's risk by a factor on the logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from baselines.algorithms.base import Algorithm
from baselines.algorithms.irm import IRM, dummy_slopes
from tests.baselines.algorithms.toy import PlainMethod, Step, disks, gradients, loss_of, make

LATE = Step(9, 10)


def test_slopes_are_the_derivative_by_a_dummy_scale() -> None:
    logits, masks = torch.randn(3, 1, 5, 4, dtype=torch.float64), (torch.rand(3, 1, 5, 4) > 0.5).double()
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    for row in range(3):
        risk = F.binary_cross_entropy_with_logits(logits[row] * scale, masks[row])
        (expected,) = torch.autograd.grad(risk, scale)
        torch.testing.assert_close(dummy_slopes(logits, masks)[row].double(), expected, atol=1e-6, rtol=1e-5)


def test_penalty_is_the_squared_slope_of_each_domain_and_reaches_the_weights() -> None:
    method, batch = make(IRM, weight=7.0), disks(8)
    logits = method.method(batch.images)
    scales = torch.ones(4, requires_grad=True)
    risks = [
        F.binary_cross_entropy_with_logits(logits[batch.domain == d] * scales[d], batch.masks[batch.domain == d])
        for d in range(4)
    ]
    (slopes,) = torch.autograd.grad(sum(risks), scales, create_graph=True)
    expected = method.method.training_loss(batch, LATE)[0] + 7 * slopes.square().mean()
    loss = loss_of(method, batch, step=LATE)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    found = gradients(method)
    method.zero_grad()
    expected.backward()
    for name, value in gradients(method).items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4)


def test_no_penalty_where_no_scale_would_be_better() -> None:
    masks = (torch.arange(10) < 3).float().view(1, 1, 1, 10)
    logits = torch.full((1, 1, 1, 10), 0.3).logit()  # the best constant
    assert dummy_slopes(logits, masks).abs().item() < 1e-6
    assert dummy_slopes(2 * logits, masks).abs().item() > 0.1


def test_weight_zero_is_erm_bit_by_bit() -> None:
    assert torch.equal(loss_of(make(IRM, weight=0.0), disks(8), step=LATE), loss_of(make(Algorithm), disks(8)))


def test_a_method_of_the_bare_contract() -> None:
    loss, parts = make(IRM, method=PlainMethod).training_loss(disks(8), LATE)
    assert parts["penalty"] > 0 and loss.item() > parts["method"].item()
