"""The losses that methods choose by name."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from baselines.losses import LOSSES

RANDOM = torch.Generator().manual_seed(0)
LOGITS = torch.randn((3, 1, 8, 8), generator=RANDOM)
MASKS = (torch.rand((3, 1, 8, 8), generator=RANDOM) > 0.7).float()


def test_the_sum_is_that_of_its_parts() -> None:
    both, parts = LOSSES["bce_dice"](LOGITS, MASKS)
    alone = {name: LOSSES[name](LOGITS, MASKS) for name in ("bce", "dice")}
    assert {name: value.item() for name, value in parts.items()} == {
        name: loss.item() for name, (loss, _) in alone.items()
    }
    assert both.item() == pytest.approx(sum(loss.item() for loss, _ in alone.values()))
    assert alone["bce"][0].item() == pytest.approx(F.binary_cross_entropy_with_logits(LOGITS, MASKS).item())


def test_dice_is_that_of_the_probabilities() -> None:
    """Milletari et al., V-Net, 3DV 2016, without the squares and with one pixel added to both parts; the mean over images."""
    chances = LOGITS.sigmoid()
    overlap, sizes = (chances * MASKS).sum((1, 2, 3)), chances.sum((1, 2, 3)) + MASKS.sum((1, 2, 3))
    found, _ = LOSSES["dice"](LOGITS, MASKS)
    assert found.item() == pytest.approx((1 - (2 * overlap + 1) / (sizes + 1)).mean().item())


@pytest.mark.parametrize("name", LOSSES)
def test_the_right_answer_costs_next_to_nothing_and_the_wrong_one_much(name: str) -> None:
    right, wrong = (LOSSES[name](sign * 50 * (2 * MASKS - 1), MASKS)[0].item() for sign in (1, -1))
    assert right < 1e-3 and wrong > 0.9


@pytest.mark.parametrize("name", LOSSES)
def test_in_full_precision_whatever_the_network_computes_in(name: str) -> None:
    logits = LOGITS.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss, parts = LOSSES[name](logits, MASKS)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() == LOSSES[name](logits.detach(), MASKS)[0].item()
    assert not any(part.requires_grad for part in parts.values())
    assert logits.grad is not None and logits.grad.isfinite().all()
