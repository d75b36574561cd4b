"""A further modality for a trained model: the others stay as they are, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from delightsam import DeLightSAM, add_modality, load, modality_parameters, save
from delightsam.training.method import DeLightSAMMethod
from harness.training.stages import freeze_all_but

pytestmark = pytest.mark.usefixtures("shallow")

Build = Callable[..., DeLightSAM]
Images = Callable[[int, int], Tensor]


def outputs(model: DeLightSAM, images: Tensor, modality: Tensor | int) -> list[Tensor]:
    with torch.no_grad():
        found = model.outputs(images, modality)
    return [t for t in found if t is not None]


def same_bits(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def learn(model: DeLightSAM, number: int, images: Tensor) -> None:
    """Two coarse steps of the modality's own parameters."""
    model.requires_grad_(False)
    parameters = [p.requires_grad_(True) for p in modality_parameters(model, number).values()]
    optimizer = torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(images, number).square().mean().backward()
        optimizer.step()
    model.requires_grad_(False)


@pytest.mark.parametrize(
    ("fields", "like"),
    [({"queries": 7, "hypernetworks": "shared"}, None), ({}, 2)],
    ids=["published", "per_modality"],
)
def test_the_others_stay_bit_identical_while_it_learns(
    build: Build, images: Images, fields: dict[str, object], like: int | None
) -> None:
    old, x, mixed = build(**fields), images(3, 32), torch.tensor([5, 0, 2])
    before = outputs(old, x, mixed)
    new = add_modality(old, 6, like=like)
    assert new.config.modalities == (0, 2, 5, 6) and new.config.added == (6,)
    assert old.config.modalities == (0, 2, 5) and not new.training
    assert same_bits(outputs(new, x, mixed), before)

    start = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    first = outputs(new, x, 6)[0]
    learn(new, 6, x)
    moved = {name for name, tensor in new.state_dict().items() if not torch.equal(tensor, start[name])}
    owned = set(modality_parameters(new, 6))
    # A constant on every key of a softmax: no gradient; AdamW's decay needs a value other than zero.
    assert moved <= owned and {"decoder.added_queries.6", "controllers.6.blocks.0.expert.fc1.weight"} <= moved
    assert ("decoder.hypernetworks.6.layers.0.weight" in moved) == (not fields)
    assert same_bits(outputs(new, x, mixed), before)
    assert not torch.allclose(outputs(new, x, 6)[0], first)

    # And again: the first one added is now one of the others.
    sixth = outputs(new, x, 6)
    newest = add_modality(new, 1, like=6)
    learn(newest, 1, x)
    assert same_bits(outputs(newest, x, mixed), before) and same_bits(outputs(newest, x, 6), sixth)


def test_mixed_batches_of_old_and_new_equal_one_at_a_time(build: Build, images: Images) -> None:
    model = add_modality(add_modality(build(queries=7), 6, like=0), 1)
    learn(model, 1, images(1, 32))
    x, modality = images(7, 32), torch.tensor([6, 1, 0, 5, 1, 2, 6])
    together = outputs(model, x, modality)
    alone = [outputs(model, x[i : i + 1], modality[i : i + 1]) for i in range(7)]
    for i, tensor in enumerate(together):
        torch.testing.assert_close(tensor, torch.cat([one[i] for one in alone]), atol=1e-4, rtol=1e-4)
    # Each by its own query: same image, different masks.
    masks = [model(x[:1], k) for k in (0, 6, 1)]
    assert min((masks[i] - masks[j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-3


def test_a_new_modality_starts_as_a_copy_or_as_the_mean(build: Build, images: Images) -> None:
    old, x = build(), images(2, 32)
    copied, fresh = add_modality(old, 6, like=5), add_modality(old, 6)
    assert torch.equal(copied.encode(x, 6), old.encode(x, 5))
    assert torch.equal(copied.decoder.added_queries["6"], old.decoder.queries[5])
    assert torch.equal(copied.decoder.hypernetworks["6"].layers[2].bias, old.decoder.hypernetworks["5"].layers[2].bias)
    shared = old.encode(x, None)
    assert (fresh.encode(x, 6) - shared).abs().max() < 0.02 * shared.abs().max()
    torch.testing.assert_close(fresh.decoder.added_queries["6"], old.decoder.queries.mean(0))


def test_round_trip(build: Build, images: Images, tmp_path: Path) -> None:
    model, x = add_modality(build(), 8, like=0), images(2, 32)
    save(model, tmp_path / "seven.safetensors")
    again = load(tmp_path / "seven.safetensors")
    assert again.config == model.config and again.config.added == (8,)
    assert same_bits(outputs(again, x, torch.tensor([8, 2])), outputs(model, x, torch.tensor([8, 2])))
    expected = outputs(model, x, 8)[0]
    torch.testing.assert_close(outputs(again.fuse(), x, 8)[0], expected, atol=1e-4, rtol=1e-4)


def test_an_ablated_model_takes_a_further_modality(build: Build, images: Images) -> None:
    one_query = build(controllers="none", queries=1, hypernetworks="shared", prompts="none")
    new, x = add_modality(one_query, 6), images(2, 32)
    assert same_bits(outputs(new, x, 2), outputs(one_query, x, 2))
    assert list(modality_parameters(new, 6)) == ["decoder.added_queries.6"]
    plain = add_modality(build(decoder="convolutional"), 6, like=2)
    assert same_bits(outputs(plain, x, 6), outputs(plain, x, 2))
    assert all(name.startswith("controllers.6.") for name in modality_parameters(plain, 6))


def test_it_learns_in_the_bench_by_patterns(build: Build, tmp_path: Path) -> None:
    model = add_modality(build(stem="pixel", image_size=64), 6, like=0)
    save(model, tmp_path / "w.safetensors")
    patterns = ["network.controllers.6.*", "network.decoder.added_queries.6", "network.decoder.hypernetworks.6.*"]
    method = DeLightSAMMethod(
        ["mri"], weights=str(tmp_path / "w.safetensors"), stages=[{"name": "joint", "trainable": patterns}]
    )
    (stage,) = method.stages()
    learning = freeze_all_but(method, stage.trainable, {name for name, _ in method.named_parameters()})
    assert set(learning) == {f"network.{name}" for name in modality_parameters(model, 6)}


def test_mistakes_are_named(build: Build) -> None:
    model = build()
    with pytest.raises(ValueError, match=r"free and not negative; found 2, taken are \(0, 2, 5\)"):
        add_modality(model, 2)
    with pytest.raises(ValueError, match=r"`like` is one of .* \(0, 2, 5\); found 1"):
        add_modality(model, 6, like=1)
    with pytest.raises(ValueError, match=r"Only an added modality .* one of \(\); found 5"):
        modality_parameters(model, 5)
    with pytest.raises(ValueError, match=r"`added` names some, not all"):
        DeLightSAM(modalities=(0, 1), added=(0, 1))
    with pytest.raises(ValueError, match="fused model takes no further"):
        add_modality(model.fuse(), 6)
