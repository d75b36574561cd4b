"""Test-time flips: the same answer however an image is mirrored, in four passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.algorithms.flips import Flips
from delightsam.training.method import DeLightSAMMethod
from harness.config.cards import algorithm_cards
from harness.methods.adapter import MethodAdapter
from tests.baselines.algorithms.toy import MODALITIES, ToyMethod, disks, make

BATCH = disks(4)


class LeansRight(nn.Module):
    """Its logits grow to the right and downwards, whatever the image shows."""

    passes = 0

    def __init__(self, modalities: list[str]) -> None:
        super().__init__()

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        self.passes += 1
        side = torch.arange(images.shape[-1], dtype=torch.float32)
        return images.mean(1, keepdim=True) + side + 2 * side[:, None]


def test_what_leans_to_a_side_is_evened_out() -> None:
    method = make(Flips, method=LeansRight)
    found = method.predict_tested(BATCH.images, BATCH.modality)
    side = BATCH.images.shape[-1]
    expected = BATCH.images.mean(1, keepdim=True) + (side - 1) / 2 * 3
    torch.testing.assert_close(found, expected)
    assert method.method.passes == algorithm_cards()["flips"]["passes"] == 4


@pytest.mark.parametrize("axes", [(-1,), (-2,), (-2, -1)])
def test_a_mirrored_image_has_the_mirrored_answer(axes: tuple[int, ...]) -> None:
    method = make(Flips).eval()
    with torch.no_grad():
        turned = method.predict_tested(BATCH.images.flip(axes), BATCH.modality)
        torch.testing.assert_close(turned, method.predict_tested(BATCH.images, BATCH.modality).flip(axes))


def test_it_learns_as_the_method_alone() -> None:
    torch.manual_seed(0)
    alone = ToyMethod(MODALITIES)
    wrapped = make(Flips)
    wrapped.method.load_state_dict(alone.state_dict())
    losses = [method.train().training_loss(BATCH, None)[0] for method in (alone, wrapped)]
    assert torch.equal(*losses)


def test_the_fastest_form_and_the_cache_are_the_methods() -> None:
    def small(modalities: list[str]) -> nn.Module:
        return DeLightSAMMethod(modalities, image_size=32)

    method = Flips(MODALITIES, small).eval()
    adapter: Any = MethodAdapter(method)
    images = torch.rand(2, 3, 32, 32)
    modality = torch.zeros(2, dtype=torch.int64)
    with torch.inference_mode():
        plain = adapter.test_answer(images, modality, None)
        adapter.accelerate(32, 2, "off")
        assert adapter.is_accelerated
        torch.testing.assert_close(adapter.test_answer(images, modality, None), plain, atol=1e-4, rtol=1e-3)
    assert method.use_cache == method.method.use_cache


class NoFormForThis(ToyMethod):
    """Has fast forms, but none for what is asked."""

    def accelerated(self, image_size: int, batch_size: int, dtype: torch.dtype) -> None:
        return None


@pytest.mark.parametrize("method", [ToyMethod, NoFormForThis])
def test_without_a_fast_form_the_method_predicts_as_it_is(method: type[ToyMethod]) -> None:
    wrapped = make(Flips, method=method)
    assert hasattr(wrapped, "accelerated") == (method is NoFormForThis)
    adapter = MethodAdapter(wrapped)
    adapter.accelerate(32, 2, "off")
    assert not adapter.is_accelerated
