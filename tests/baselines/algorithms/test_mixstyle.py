from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.algorithms.mixstyle import MixStyle
from tests.baselines.algorithms.toy import (
    MODALITIES,
    Batch,
    PlainMethod,
    TokenMethod,
    ToyMethod,
    disks,
    gradients,
    loss_of,
    make,
)


def features(algorithm: Any, layer: nn.Module, batch: Batch, seed: int = 0) -> tuple[Tensor, Tensor]:
    """What a layer gives, and what the next one is given."""
    seen: list[Tensor] = []
    before = layer.register_forward_hook(lambda module, inputs, output: seen.append(output.detach().clone()))
    after: list[Tensor] = []
    following = algorithm.method.late if layer is algorithm.method.early else algorithm.method.last
    handle = following.register_forward_pre_hook(lambda module, inputs: after.append(inputs[0].detach().clone()))
    loss_of(algorithm, batch, seed)
    before.remove()
    handle.remove()
    return seen[0], after[0]


def style(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean((2, 3)), (x.var((2, 3)) + 1e-6).sqrt()


def test_the_new_style_is_a_mixture_of_the_own_and_a_partner_s() -> None:
    algorithm, batch = make(MixStyle, probability=1.0, alpha=1.0), disks(6)
    before, after = features(algorithm, algorithm.method.early, batch)
    (mean, std), (new_mean, new_std) = style(before), style(after)
    for i in range(6):
        errors = []
        for j in [j for j in range(6) if j != i and batch.modality[j] == batch.modality[i]]:
            old, other = torch.cat([mean[i], std[i]]), torch.cat([mean[j], std[j]])
            new = torch.cat([new_mean[i], new_std[i]])
            weight = ((new - other) @ (old - other) / (old - other).square().sum()).clamp(0, 1)
            errors.append((weight * old + (1 - weight) * other - new).abs().max().item())
        assert min(errors) < 1e-3
    # What is left without style is the image's own.
    normalised = [(x - x.mean((2, 3), True)) / (x.var((2, 3), keepdim=True) + 1e-6).sqrt() for x in (before, after)]
    torch.testing.assert_close(*normalised, atol=1e-3, rtol=1e-3)


def test_crossdomain_takes_the_style_of_another_domain() -> None:
    batch = disks(4, modality=[0, 0, 0, 0], domain=[0, 0, 0, 1])
    mean, std = torch.tensor([[0.0], [1.0], [2.0], [100.0]]), torch.tensor([[5.0], [6.0], [7.0], [1.0]])
    torch.manual_seed(0)
    for mix, only_the_last in (("crossdomain", True), ("random", False)):
        algorithm = make(MixStyle, alpha=1.0, mix=mix)
        fits = []
        for _ in range(50):
            new_mean, new_std = algorithm.style(mean, std, batch)
            weight = (new_mean - 100) / (mean - 100)
            fits.append(torch.isclose(weight * std + (1 - weight) * 1.0, new_std, atol=1e-3)[:3].all())
        assert all(fits) == only_the_last


def test_the_deepest_layer_stays_and_probability_is_that_of_a_step() -> None:
    algorithm, batch = make(MixStyle), disks(6)
    changed = []
    for seed in range(30):
        before, after = features(algorithm, algorithm.method.early, batch, seed)
        changed.append(not torch.equal(before, after))
        deep = features(algorithm, algorithm.method.late, batch, seed)
        assert torch.equal(*deep)
    assert 8 <= sum(changed) <= 22


@pytest.mark.parametrize("method", [ToyMethod, TokenMethod])
def test_nothing_happens_at_test_time_nor_to_a_batch_of_one_nor_with_probability_zero(method: Any) -> None:
    def bare(modalities: list[str], method: Any) -> Any:
        return method(modalities=modalities)

    batch, alone = disks(6), disks(1)
    algorithm, plain = make(MixStyle, method=method, probability=1.0), make(bare, method=method)
    assert not torch.equal(loss_of(algorithm, batch), loss_of(plain, batch))
    assert torch.equal(loss_of(algorithm, alone), loss_of(plain, alone))
    off = make(MixStyle, method=method, probability=0.0)
    assert torch.equal(loss_of(off, batch), loss_of(make(bare, method=method), batch))
    algorithm, plain = make(MixStyle, method=method, probability=1.0).eval(), make(bare, method=method).eval()
    assert torch.equal(algorithm.predict(batch.images, batch.modality), plain.predict(batch.images, batch.modality))
    assert torch.equal(loss_of(algorithm, batch), loss_of(plain, batch))
    assert not any(module._forward_hooks for module in algorithm.modules())


def test_gradients_don_t_flow_through_the_styles() -> None:
    """With the styles as constants the gradient of the features is that of a fixed affine map."""
    algorithm = make(MixStyle, probability=1.0)
    x = torch.randn(4, 4, 5, 5, requires_grad=True)
    new_mean, new_std = algorithm.style(x.mean((2, 3)), x.std((2, 3)), disks(4))
    assert not new_mean.requires_grad and not new_std.requires_grad


def test_bfloat16_features_stay_bfloat16_and_near_those_of_float32() -> None:
    algorithm, batch = make(MixStyle, probability=1.0), disks(6)
    full = features(algorithm, algorithm.method.early, batch)[1]
    with torch.autocast("cpu", torch.bfloat16):
        half = features(algorithm, algorithm.method.early, batch)[1]
    assert half.dtype == torch.bfloat16
    assert (half - full).abs().mean() < 0.02
    loss_of(algorithm, batch).backward()
    assert all(gradient.isfinite().all() for gradient in gradients(algorithm).values())


def test_a_method_without_feature_layers_and_wrong_settings() -> None:
    with pytest.raises(ValueError, match=r"MixStyle needs encoder features, and PlainMethod .* feature_layers\(\)"):
        make(MixStyle, method=PlainMethod)
    with pytest.raises(ValueError, match="expected mix to be one of random, crossdomain; found 'other'"):
        make(MixStyle, mix="other")


class Windows(ToyMethod):
    """Its first layer gives windows instead of images on the first axis."""

    def feature_layers(self) -> list[tuple[nn.Module, int]]:
        return [(self.split, 1), (self.late, 1)]

    def __init__(self, modalities: list[str]) -> None:
        super().__init__(modalities)
        self.split = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        self.split(torch.cat([images, images]))
        return super().forward(images)


def test_features_that_are_not_of_images_are_refused() -> None:
    algorithm = MixStyle(MODALITIES, Windows, probability=1.0)
    with pytest.raises(ValueError, match=r"expected features of 6 images from Identity, found shape \(12, 3, 32, 32\)"):
        loss_of(algorithm, disks(6))
    assert not any(module._forward_hooks for module in algorithm.modules())
