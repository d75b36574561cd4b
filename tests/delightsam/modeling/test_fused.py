"""The fast path of inference gives what the plain one gives: stripes, pieces, kernels, bfloat16, frozen early layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from delightsam import DeLightSAM
from delightsam.modeling import kernels
from delightsam.modeling.layers import STRIPE_ROWS, ConvChain, TokenMLP, add_mlps
from delightsam.modeling.tiny_vit import Downsample, InvertedResidual, Stem
from tests.performance.plain_delightsam import PlainDeLightSAM

pytestmark = pytest.mark.usefixtures("shallow")

Build = Callable[..., DeLightSAM]
Images = Callable[[int, int], Tensor]
MIXED = torch.tensor([5, 0, 2, 0, 2])


def random_chain(kind: str) -> ConvChain:
    torch.manual_seed(0)
    chains: dict[str, Callable[[], ConvChain]] = {
        "standard": lambda: Stem("standard"),
        "pixel": lambda: Stem("pixel"),
        "residual": lambda: InvertedResidual(4),
        "stride 1": lambda: Downsample(4, 6, 1),
        "stride 2": lambda: Downsample(4, 6, 2),
    }
    chain = chains[kind]()
    for module in chain.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return chain.eval()


@pytest.mark.parametrize("kind", ["standard", "pixel", "residual", "stride 1", "stride 2"])
@given(height=st.integers(1, 5 * STRIPE_ROWS), width=st.integers(1, 9), batch=st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_stripes_equal_the_whole_map(kind: str, height: int, width: int, batch: int) -> None:
    chain = random_chain(kind).double()
    channels = 3 if kind in ("standard", "pixel") else 4
    x = torch.randn((batch, channels, height, width), dtype=torch.float64)
    whole = chain(x)
    with torch.no_grad():
        torch.testing.assert_close(chain(x), whole.detach(), atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(chain.float()(x.float()), whole.detach().float(), atol=1e-4, rtol=1e-4)


def test_a_chain_in_training_normalises_by_its_batch() -> None:
    """Also without gradients: the folded convolution would use the running statistics."""
    chain, x = random_chain("residual").train(), torch.randn(2, 4, 8, 8)
    expected = chain(x)
    with torch.no_grad():
        torch.testing.assert_close(chain(x), expected, atol=1e-5, rtol=1e-5)


# Autocast leaves float64 alone.
@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [
        (torch.float32, False),
        (torch.float32, True),
        (torch.bfloat16, False),
        (torch.bfloat16, True),
        (torch.float64, False),
    ],
)
def test_linear_kernel(dtype: torch.dtype, autocast: bool) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 7, 8), torch.randn(5, 8), torch.randn(5)
    add = torch.randn(3, 7, 5)
    expected = x @ weight.T + bias
    tolerance = 0.1 if autocast or dtype == torch.bfloat16 else 1e-5
    context = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
    with torch.no_grad(), context:
        args = x.to(dtype), weight.to(dtype), bias.to(dtype)
        results = kernels.linear(*args), kernels.linear(*args, gelu=True), kernels.linear(*args, add=add.to(dtype))
    for result, right in zip(results, (expected, F.gelu(expected), expected + add), strict=True):
        torch.testing.assert_close(result.float(), right, atol=tolerance, rtol=tolerance / 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_attention_kernel(dtype: torch.dtype, gradient: bool, biased: bool) -> None:
    torch.manual_seed(0)
    q, k, v, bias = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 6, 8), torch.randn(2, 3, 6, 8), torch.randn(1, 3, 5, 6)
    scores = torch.einsum("bhnd,bhmd->bhnm", q, k) / 8**0.5 + (bias if biased else 0)
    expected = torch.einsum("bhnm,bhmd->bhnd", scores.softmax(-1), v)
    with torch.set_grad_enabled(gradient):
        ours = kernels.attention(q.to(dtype), k.to(dtype), v.to(dtype), bias.to(dtype) if biased else None)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(ours.float(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("fused", [True, False])
def test_mlps_beside_each_other_in_pieces(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_TOKENS_PER_THREAD", 3)
    torch.manual_seed(0)
    mlps = [TokenMLP(8), TokenMLP(8)]
    x, out = torch.randn(11, 8), torch.empty(11, 8)
    with torch.no_grad():
        for mlp in mlps:
            mlp.norm.weight.uniform_(0.5, 2)
            mlp.norm.bias.uniform_(-1, 1)
        expected = x + mlps[0](x) + mlps[1](x)
        if fused:
            for mlp in mlps:
                mlp.fuse()
        add_mlps(x, mlps, out=out)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("stem", "side"), [("standard", 160), ("pixel", 24)])
def test_ours_and_fused_equal_the_authors_data_flow(build: Build, images: Images, stem: str, side: int) -> None:
    model, x = build(stem=stem, image_size=side), images(5, side)
    with torch.no_grad():
        expected = PlainDeLightSAM(model)(x, MIXED)
        torch.testing.assert_close(model(x, MIXED), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model.fuse()(x, MIXED), expected, atol=1e-4, rtol=1e-4)


def test_fused_in_bfloat16(build: Build, images: Images) -> None:
    model, x = build(modalities=(2,)), images(2, 96)
    with torch.no_grad():
        exact = model(x, 2)
        frequencies = model.decoder.frequencies.clone()
        model.fuse(torch.bfloat16)
        rough = model(x, 2)
        again = model(x, 2)
    assert rough.dtype == torch.float32 and torch.equal(rough, again)
    assert model.encoder.neck[0].weight.dtype == torch.bfloat16
    # Angles are 2 pi times these: rounded ones would turn the position code.
    assert torch.equal(model.decoder.frequencies, frequencies)
    assert torch.corrcoef(torch.stack((exact.flatten(), rough.flatten())))[0, 1] > 0.99


def test_whoever_counts_or_exports_sees_pytorchs_operators(build: Build, images: Images) -> None:
    """Multiply-accumulates don't depend on the path, and an exported graph runs anywhere."""
    model, x = build(modalities=(0,)), images(1, 64)
    model.requires_grad_(False)
    counts = []
    for gradient in (True, False):
        with torch.set_grad_enabled(gradient), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(x, 0)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    with torch.no_grad():
        program = torch.export.export(random_chain("residual"), (torch.randn(1, 4, 8, 8),))
    assert not any("mkldnn" in str(node.target) for node in program.graph.nodes)


def test_frozen_early_layers_record_nothing_and_change_no_gradient(build: Build, images: Images) -> None:
    # In float64: another order of sums, as frozen layers bring, is no more than rounding there on any processor.
    model, x = build(modalities=(2,)).double(), images(2, 64).double()
    learning = [*model.controllers["2"].parameters()]
    expected = torch.autograd.grad(model(x, 2).square().mean(), learning)
    model.encoder.requires_grad_(False)
    early, first, *_ = model.encoder.backbone(x)
    assert not early.requires_grad and not first.requires_grad
    for ours, whole in zip(torch.autograd.grad(model(x, 2).square().mean(), learning), expected, strict=True):
        assert (ours - whole).norm() <= 1e-9 * whole.norm() + 1e-15
    with torch.autocast("cpu", torch.bfloat16):
        _, rough, *_ = model.float().encoder.backbone(x.float())
    assert rough.dtype == torch.bfloat16 and (rough - first).norm() <= 0.02 * first.norm()
