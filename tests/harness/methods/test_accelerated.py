"""A method that knows a faster form of itself predicts in it, where it is asked to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from delightsam.training.method import DeLightSAMMethod
from harness.data.batches.loader import Batch
from harness.methods.adapter import MethodAdapter


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        return torch.full_like(images[:, :1], self.value)


class Two(Constant):
    """Predicts 1, and 2 in its faster form."""

    def __init__(self, has_form: bool = True) -> None:
        super().__init__(1)
        self.has_form, self.asked = has_form, []  # type: ignore[var-annotated]

    def accelerated(self, image_size: int, batch_size: int, dtype: torch.dtype) -> nn.Module | None:
        self.asked.append((image_size, batch_size, dtype))
        return Constant(2) if self.has_form else None


class Oracle(Two):
    def predict_oracle(self, images: Tensor, modality: Tensor, masks: Tensor) -> Tensor:
        return torch.full_like(masks, 3)


def batch() -> Batch:
    numbers = torch.zeros(2, dtype=torch.int64)
    return Batch(torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32), numbers, numbers, ["a", "b"])


def test_the_faster_form_is_used_once_it_is_asked_for() -> None:
    method = Two()
    adapter = MethodAdapter(method)
    assert (adapter.test_logits(batch(), "off") == 1).all()
    adapter.accelerate(32, 2, "bfloat16")
    assert method.asked == [(32, 2, torch.bfloat16)]
    assert (adapter.test_logits(batch(), "off") == 2).all()
    adapter.accelerate(32, 2, "bfloat16")
    assert len(method.asked) == 1, "made again, for the same weights"
    adapter.accelerate(64, 2, "bfloat16")
    assert len(method.asked) == 2


@pytest.mark.parametrize(("method", "value"), [(Constant(1), 1), (Two(has_form=False), 1), (Oracle(), 3)])
def test_without_one_the_method_predicts(method: Any, value: int) -> None:
    adapter = MethodAdapter(method)
    adapter.accelerate(32, 2, "off")
    assert (adapter.test_logits(batch(), "off") == value).all()


@pytest.fixture
def trained() -> DeLightSAMMethod:
    """With controllers that change what the encoder gives."""
    torch.manual_seed(0)
    method = DeLightSAMMethod(["fundus", "xray"]).eval()
    with torch.no_grad():
        for parameter in method.network.controllers.parameters():
            parameter.normal_(0, 0.05)
    return method


@pytest.mark.parametrize("ends_in_decode", [False, True])
def test_delightsam_predicts_the_same(trained: DeLightSAMMethod, ends_in_decode: bool) -> None:
    """Of one modality and of several, at the size that it was asked for and at others."""
    plain, fast = MethodAdapter(trained), MethodAdapter(trained)
    trained.set_flag("without_controllers", ends_in_decode)
    fast.accelerate(32, 2, "off")
    assert fast.is_accelerated
    for modality, side in (([1, 0], 32), ([1, 1], 32), ([0, 1], 64), ([0, 0], 160)):
        images = replace(batch(), images=torch.rand(2, 3, side, side), masks=torch.zeros(2, 1, side, side))
        images.modality = torch.tensor(modality)
        expected = plain.test_logits(images, "off")
        torch.testing.assert_close(fast.test_logits(images, "off"), expected, atol=1e-4, rtol=1e-4)


def test_embeddings_that_are_kept_are_found_again(trained: DeLightSAMMethod, tmp_path: Path) -> None:
    """On a CPU that is faster than any encoder."""
    trained.use_cache(tmp_path)
    assert trained.accelerated(32, 2, torch.float32) is not None
    trained.set_flag("without_controllers", True)
    assert trained.accelerated(32, 2, torch.float32) is None
