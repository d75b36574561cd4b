"""A method that knows a faster form of itself predicts in it, where it is asked to."""

from __future__ import annotations

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


def test_delightsam_predicts_the_same() -> None:
    torch.manual_seed(0)
    method = DeLightSAMMethod(["fundus", "xray"]).eval()
    images = batch()
    images.modality = torch.tensor([1, 0])
    plain, fast = MethodAdapter(method), MethodAdapter(method)
    fast.accelerate(32, 2, "off")
    expected = plain.test_logits(images, "off")
    torch.testing.assert_close(fast.test_logits(images, "off"), expected, atol=1e-4, rtol=1e-4)
    # A stage without controllers has no faster form.
    method.set_flag("without_controllers", True)
    assert method.accelerated(32, 2, torch.float32) is None
