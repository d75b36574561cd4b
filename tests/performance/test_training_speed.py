"""A training step of TinyViT beside one that takes the layers as PyTorch has them: same process, same weights, in turns."""

from __future__ import annotations

import time

import pytest
import torch

from delightsam.modeling import kernels
from delightsam.modeling.tiny_vit import TinyViT

pytestmark = pytest.mark.performance


def test_a_step_of_full_fine_tuning_is_faster_than_with_plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = TinyViT("pixel").eval()  # fixed statistics, as in fine-tuning
    images = torch.rand(8, 3, 64, 64)
    fastest = {"plain layers": float("inf"), "ours": float("inf")}
    for _ in range(3):
        for name in fastest:
            with monkeypatch.context() as patch:
                if name == "plain layers":
                    patch.setattr(kernels, "learns_on_cpu", lambda x: False)
                started = time.process_time()
                network(images)[-1].square().mean().backward()
                fastest[name] = min(fastest[name], time.process_time() - started)
    ratio = fastest["plain layers"] / fastest["ours"]
    print(f"\nfull fine-tuning, a step: {fastest}, {ratio:.2f}x")
    assert ratio >= 1.1
