"""The whole network: batches of mixed modalities, any size, inference form, gradients, bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from delightsam import DeLightSAM, DeLightSAMConfig
from delightsam.modeling.controllers import group_by_modality

pytestmark = pytest.mark.usefixtures("shallow")

Build = Callable[..., DeLightSAM]
Images = Callable[[int, int], Tensor]
MIXED = torch.tensor([5, 0, 2, 0, 2])


@pytest.mark.parametrize("hypernetworks", ["per_modality", "shared"])
def test_mixed_batch_equals_one_image_at_a_time(build: Build, images: Images, hypernetworks: str) -> None:
    model, x = build(hypernetworks=hypernetworks), images(5, 96)
    with torch.no_grad():
        together = model.outputs(x, MIXED)
        for i in range(5):
            alone = model.outputs(x[i : i + 1], MIXED[i : i + 1])
            for name in ("logits", "patch_logits", "embedding"):
                torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name)[0], atol=1e-4, rtol=1e-4)


def test_modality_changes_the_result(build: Build, images: Images) -> None:
    model, x = build(), images(1, 64)
    with torch.no_grad():
        masks = [model(x, k) for k in (0, 2, 5)]
    for other in masks[1:]:
        assert (other - masks[0]).abs().max() > 0.05


def test_training_path_equals_inference_path(build: Build, images: Images) -> None:
    """With gradients the attention is spelled out, and batches of several modalities go through it at once."""
    model, x = build(), images(5, 96)
    with torch.no_grad():
        expected = model(x, MIXED)
    torch.testing.assert_close(model(x, MIXED), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model(x, 2), model.eval()(x, torch.full((5,), 2)), atol=0, rtol=0)


@pytest.mark.parametrize("size", [64, 96, 160])
@pytest.mark.parametrize("stem", ["standard", "pixel"])
def test_sizes(build: Build, images: Images, size: int, stem: str) -> None:
    side = size // 4 if stem == "pixel" else size
    model, x = build(stem=stem, image_size=side), images(1, side)
    with torch.no_grad():
        outputs = model.outputs(x, 0)
    assert outputs.logits.shape == (1, 1, side, side)
    assert outputs.embedding.shape == (1, 256, size // 16, size // 16)
    assert outputs.patch_logits.shape == (1, 1, size // 32, size // 32)
    assert outputs.logits.isfinite().all() and outputs.logits.std() > 0


def test_rectangles_are_allowed(build: Build, images: Images) -> None:
    model = build(modalities=(0,))
    with torch.no_grad():
        assert model(images(1, 128)[:, :, :64], 0).shape == (1, 1, 64, 128)


@pytest.mark.parametrize("shape", [(1, 3, 72, 64), (1, 3, 64, 100), (3, 64, 64), (1, 1, 64, 64), (1, 3, 0, 64)])
def test_bad_shapes_are_named(build: Build, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"multiples of 32|\(B, 3, H, W\)"):
        build(modalities=(0,))(torch.zeros(shape), 0)


def test_bad_modalities_are_named(build: Build, images: Images) -> None:
    model, x = build(modalities=(0, 2)), images(2, 64)
    with pytest.raises(ValueError, match=r"knows the modality numbers 0, 2; found 1, 7"):
        model(x, torch.tensor([1, 7]))
    with pytest.raises(ValueError, match="2 images need 2 modality numbers; found 3"):
        model(x, torch.tensor([0, 0, 0]))


def test_fuse_gives_the_same_result(build: Build, images: Images) -> None:
    model, x = build(), images(5, 160)
    with torch.no_grad():
        expected = model.outputs(x, MIXED)
        assert model.fuse() is model.fuse()
        fused = model.outputs(x, MIXED)
        again = model.outputs(x, MIXED)  # from the caches
    for name in ("logits", "patch_logits", "embedding"):
        torch.testing.assert_close(getattr(fused, name), getattr(expected, name), atol=1e-4, rtol=1e-4)
    assert torch.equal(fused.logits, again.logits)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    with pytest.raises(ValueError, match="fused model can't be trained"):
        model.train()


def test_fused_caches_do_not_outlive_a_move(build: Build, images: Images) -> None:
    model, x = build(modalities=(1,)).fuse(), images(1, 96)
    with torch.no_grad():
        before = model(x, 1)
        after = model.double()(x.double(), 1)
    assert after.dtype == torch.float64
    torch.testing.assert_close(after.float(), before, atol=1e-4, rtol=1e-4)


def test_fuse_refuses_a_model_in_training(build: Build) -> None:
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        build(modalities=(0,)).train().fuse()


def test_fresh_controllers_have_almost_no_effect(images: Images) -> None:
    torch.manual_seed(0)
    model, x = DeLightSAM(modalities=(0, 1)).eval(), images(2, 64)
    with torch.no_grad():
        shared = model.encode(x, None)
        controlled = model.encode(x, torch.tensor([1, 0]))
    assert 0 < (controlled - shared).abs().max() < 0.02 * shared.abs().max()


def test_fresh_prompts_have_no_effect_yet_learn(images: Images) -> None:
    torch.manual_seed(0)
    model, x = DeLightSAM(modalities=(0,)), images(2, 64)
    assert model.prompts is not None
    assert not model.prompts.encode(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)).any()
    optimizer = torch.optim.SGD(model.prompts.encoder.parameters(), lr=0.1)
    for _ in range(2):  # the LayerNorm's weight first, what lies before it then
        optimizer.zero_grad()
        model.outputs(x, 0, torch.ones(2, 1, 2, 2)).logits.square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in model.prompts.encoder.parameters())


@pytest.mark.parametrize("kind", ["none", "tokens", "expert"])
def test_kinds_of_controllers(build: Build, images: Images, kind: str) -> None:
    model, x = build(controllers=kind), images(2, 64)
    with torch.no_grad():
        a, b = (model.encode(x, k) for k in (0, 5))
    assert torch.equal(a, b) == (kind == "none")
    names = [name for name, _ in model.named_parameters()]
    assert any("expert" in n for n in names) == (kind == "expert")
    assert any("token" in n for n in names) == (kind == "tokens")


@pytest.mark.parametrize("tied", [True, False])
def test_gradient_reaches_every_parameter(build: Build, images: Images, tied: bool) -> None:
    model, x = build(tied_tokens=tied).train(), images(5, 64)
    outputs = model.outputs(x, MIXED)
    (outputs.logits.square().mean() + outputs.patch_logits.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # A constant added to every key of a softmax changes nothing: such a bias has no gradient to get.
        if not name.endswith("key.bias"):
            assert parameter.grad.abs().max() > 0, name


def test_absent_modalities_get_no_gradient(build: Build, images: Images) -> None:
    model = build().train()
    model(images(2, 64), torch.tensor([0, 5])).sum().backward()
    for k in (0, 2, 5):
        grads = [p.grad for p in model.controllers[str(k)].parameters()]
        assert all((g is not None) == (k != 2) for g in grads)


def test_bfloat16_autocast(build: Build, images: Images) -> None:
    model, x = build(), images(5, 64)
    with torch.no_grad():
        exact = model(x, MIXED)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(x, MIXED)
    correlation = torch.corrcoef(torch.stack((exact.flatten(), rough.float().flatten())))[0, 1]
    assert correlation > 0.95
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.outputs(x, MIXED)
        loss = outputs.logits.float().square().mean() + outputs.patch_logits.float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_training_on_one_image_of_the_smallest_size(images: Images) -> None:
    model = DeLightSAM(modalities=(0,)).train()
    assert model(images(1, 64), 0).isfinite().all()


def test_segment_works_at_native_size(build: Build) -> None:
    model = build(image_size=64)
    image = np.random.default_rng(0).integers(0, 256, (50, 75, 3), dtype=np.uint8)
    mask = model.segment(image, 2)
    assert mask.shape == (50, 75) and mask.dtype == np.bool_
    assert 0 < mask.mean() < 1
    assert np.array_equal(model.train().segment(image, 2), mask)  # always in eval mode,
    assert model.training  # and the mode is given back
    with pytest.raises(ValueError, match=r"\(H, W, 3\) RGB .* found shape \(50, 75, 3\) of float32"):
        model.segment(image.astype(np.float32), 2)
    with pytest.raises(ValueError, match=r"guesses_modality|can't tell"):
        model.segment(image, "auto")


def test_predict_normalises(build: Build, images: Images) -> None:
    model, x = build(modalities=(0,), preprocessing="minmax"), images(1, 64)
    unit = (x - x.amin()) / (x.amax() - x.amin())
    with torch.no_grad():
        torch.testing.assert_close(model.predict(x * 0.3, 0), model(unit, 0), atol=1e-4, rtol=1e-4)


def test_group_by_modality() -> None:
    order, groups = group_by_modality([2, 0, 2])
    assert order == [1, 0, 2]
    assert [(g.modality, g.start, g.stop) for g in groups] == [(0, 0, 1), (2, 1, 3)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stem": "patch"}, "`stem` is one of standard, pixel; found 'patch'"),
        ({"modalities": ()}, "`modalities` needs one or more"),
        ({"modalities": (1, 1)}, "different numbers"),
        ({"modalities": (6,), "queries": 6}, "Modality 6 needs 7 query rows, or 1 for all modalities; found 6"),
        ({"image_size": 100}, "`image_size` is a multiple of 32; found 100"),
        ({"preprocessing": "zscore"}, "`preprocessing` is one of"),
    ],
)
def test_bad_config_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeLightSAMConfig(**fields)  # type: ignore[arg-type]


@pytest.mark.usefixtures("whole")
def test_parameter_counts() -> None:
    counts = DeLightSAM().parameter_counts()
    one = DeLightSAM(modalities=(5,)).parameter_counts()
    assert one["total"] == one["active"] == counts["active"]
    kernel_mlp = 2 * (256 * 256 + 256) + 256 * 32 + 32
    assert counts["total"] - counts["active"] == 5 * (3_144_202 + kernel_mlp)


def test_fuse_to_bfloat16_takes_float32_images(build: Build, images: Images) -> None:
    model, x = build(), images(3, 64)
    with torch.no_grad():
        expected = model(x, torch.tensor([5, 0, 2]))
        rough = model.fuse(torch.bfloat16)(x, torch.tensor([5, 0, 2]))
    assert rough.dtype == torch.float32
    assert torch.corrcoef(torch.stack((expected.flatten(), rough.flatten())))[0, 1] > 0.95
