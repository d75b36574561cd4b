from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.algorithms.consistency import divergence, logits_of, loss_and_logits
from baselines.losses import bce_dice
from tests.baselines.algorithms.toy import MODALITIES, Step, ToyMethod, disks


@pytest.mark.parametrize("from_mean", [False, True])
def test_divergence_by_torch(from_mean: bool) -> None:
    views = torch.randn(3, 2, 1, 4, 5, generator=torch.Generator().manual_seed(0)) * 3
    logits = torch.stack([views, torch.zeros_like(views)])  # two classes: softmax over them is the sigmoid
    log_probability = logits.log_softmax(0)
    mean = log_probability.exp().mean(1, keepdim=True).expand_as(log_probability)
    if from_mean:
        expected = F.kl_div(log_probability, mean, reduction="none")
    else:
        expected = F.kl_div(mean.log(), log_probability.exp(), reduction="none")
    found = divergence(views.flatten(0, 1), 3, from_mean=from_mean)
    torch.testing.assert_close(found, expected.sum(0).mean())


def test_divergence_is_zero_for_equal_views_and_finite_for_sure_ones() -> None:
    logits = torch.randn(2, 1, 4, 4)
    for from_mean in (False, True):
        assert divergence(logits.repeat(3, 1, 1, 1), 3, from_mean=from_mean).abs() < 1e-6
        sure = torch.tensor([200.0, -200.0, 200.0]).view(3, 1, 1, 1).requires_grad_()
        value = divergence(sure.bfloat16(), 3, from_mean=from_mean)
        value.backward()
        assert value.dtype == torch.float32 and value.isfinite() and value > 0 and sure.grad.isfinite().all()


class OnePass(ToyMethod):
    passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(images)

    def loss_and_logits(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        logits = self(batch.images)
        return *bce_dice(logits, batch.masks), logits


def test_a_method_that_gives_its_logits_is_asked_once() -> None:
    torch.manual_seed(0)
    method, batch = OnePass(MODALITIES), disks(4)
    loss, _, logits = loss_and_logits(method, batch, Step())
    assert method.passes == 1
    expected, _, same = loss_and_logits(_without(method), batch, Step())
    assert torch.equal(loss, expected) and torch.equal(logits, same)


def _without(method: nn.Module) -> ToyMethod:
    plain = ToyMethod(MODALITIES)
    plain.load_state_dict(method.state_dict())
    return plain


class Oracle(nn.Module):
    def predict_oracle(self, images: Tensor, modality: Tensor, masks: Tensor) -> Tensor:
        assert len(images) == len(modality) == len(masks)
        return images[:, :1] + masks


def test_a_prompted_method_gets_the_masks_of_every_view() -> None:
    batch = disks(3)
    logits = logits_of(Oracle(), [batch.images, batch.images * 2], batch)
    expected = torch.cat([batch.images[:, :1] + batch.masks, batch.images[:, :1] * 2 + batch.masks])
    assert torch.equal(logits, expected)
