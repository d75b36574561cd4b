"""Parameters and multiply-accumulates agree with a second counter, fvcore, which counts on a traced graph."""

from __future__ import annotations

import logging

import pytest
import torch
from fvcore.nn import FlopCountAnalysis, parameter_count
from support.methods import others_slow
from torch import Tensor, nn

from harness.efficiency.measure import count_macs, count_parameters
from tests.baselines.networks.nets import NETWORKS, fresh

# fvcore also counts norms, pooling and resizing, which are no multiply-accumulates of a weight or of attention.
_PRODUCTS = ("conv", "linear", "matmul", "einsum", "addmm", "bmm", "baddbmm")


class Forward(nn.Module):
    """A method as fvcore wants it: called with images alone."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.method(images)
        return logits


# One with convolutions alone, and two that attend: by products of matrices, and by sums over named axes.
@pytest.mark.parametrize("name", others_slow(list(NETWORKS), ["unet", "segformer", "unetr"]))
def test_counts_agree_with_fvcore(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("fvcore.nn.jit_analysis"), "disabled", True)
    method, image = fresh(name).eval(), torch.rand(1, 3, 64, 96)
    for module in method.modules():  # fvcore does not know fused attention
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    second = FlopCountAnalysis(Forward(method).eval(), image)
    products = sum(value for kind, value in second.by_operator().items() if kind in _PRODUCTS)
    assert count_macs(method, image) == pytest.approx(products, rel=0.02)
    assert count_parameters(method)["parameters_total"] == parameter_count(method)[""]
