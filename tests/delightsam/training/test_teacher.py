"""The SAM ViT teacher: Meta's function, its weights files, and what the modalities add to it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from delightsam import WeightsError
from delightsam.training import teacher as teacher_module
from delightsam.training.teacher import TEACHER_SIZES, SamTeacher, read_sam_image_encoder

# Recorded by running Meta's public code (segment_anything 1.0, Apache-2.0) at the size "tiny", with the weights of
# `meta_state` and the input below: its embedding at [0, ::64, 3::16, 5::16].
META_EMBEDDING = [
    -0.08279, -0.59322, -0.85621, 0.22189, -0.65945, -0.84071, 0.65539, 1.18189,
    -1.1324, -1.89028, -0.24589, 0.49531, 0.8733, 0.77703, 0.77175, 0.04564,
]  # fmt: skip


@pytest.fixture(scope="module")
def meta_state(fill: Callable[..., Tensor]) -> dict[str, Tensor]:
    """Weights in Meta's names: filled from the names; wide positions and queries, so that none goes unnoticed."""
    names = SamTeacher([], "tiny").vit.state_dict()
    shapes = {f"image_encoder.{name.replace('mlp.fc', 'mlp.lin')}": tuple(t.shape) for name, t in names.items()}
    factors = {"pos": 20, "qkv.weight": 4}
    return {
        name: fill(name, shape, wide=()) * next((f for part, f in factors.items() if part in name), 1)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def meta_file(meta_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam") / "sam.pth"
    others = {
        "prompt_encoder.no_mask_embed.weight": torch.zeros(1, 256),
        "mask_decoder.iou_token.weight": torch.ones(1),
    }
    torch.save(meta_state | others, path)
    return path


@pytest.fixture
def teacher(meta_file: Path) -> SamTeacher:
    torch.manual_seed(0)
    return SamTeacher([0, 3], "tiny", meta_file)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def awake(teacher: SamTeacher, fill: Callable[..., Tensor]) -> SamTeacher:
    """A teacher whose every controller has an effect of its own."""
    for name, parameter in teacher.controllers.named_parameters():
        parameter.data.copy_(fill(name, tuple(parameter.shape), wide=("token",)))  # a copy: a test changes it
    return teacher


def test_sam_as_meta_computes_it(teacher: SamTeacher) -> None:
    images = torch.from_numpy(np.random.default_rng(0).random((1, 3, 512, 512), dtype=np.float32))
    with torch.no_grad():
        embedding = teacher(images, (32, 32), None)
    assert embedding.shape == (1, 256, 32, 32)
    assert torch.allclose(embedding[0, ::64, 3::16, 5::16].flatten(), torch.tensor(META_EMBEDDING), atol=1e-3)


@pytest.mark.parametrize("grid", [(8, 8), (8, 12), (10, 6)])
def test_controllers_start_without_effect(teacher: SamTeacher, images: Tensor, grid: tuple[int, int]) -> None:
    numbers = torch.tensor([3, 0, 3])
    with torch.no_grad():
        plain, fresh = teacher(images, grid, None), teacher(images, grid, numbers)
        for name, parameter in teacher.controllers.named_parameters():
            if name.endswith("token_bias"):
                parameter.fill_(-1e9)
        silent = teacher(images, grid, numbers)
    assert plain.shape == (3, 256, *grid)
    assert torch.allclose(silent, plain, atol=1e-5)
    assert (fresh - plain).abs().max() < 0.05 * plain.abs().max()


def test_an_image_meets_its_own_controller_only(awake: SamTeacher, images: Tensor) -> None:
    numbers = torch.tensor([3, 0, 3])
    with torch.no_grad():
        before = awake(images, (8, 8), numbers)
        single = torch.cat([awake(images[i : i + 1], (8, 8), numbers[i : i + 1]) for i in range(3)])
        awake.controllers["3"].blocks[2].up.bias.add_(1)
        after = awake(images, (8, 8), numbers)
    assert torch.allclose(before, single, atol=1e-4)
    assert torch.equal(before[1], after[1])
    assert (before[[0, 2]] - after[[0, 2]]).abs().amax((1, 2, 3)).min() > 1e-2


def test_tokens_are_one_more_key_and_value(awake: SamTeacher) -> None:
    attention, tokens = awake.vit.blocks[1].attn, awake.controllers["0"].blocks[1].tokens
    x = torch.randn(2, 3, 5, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        qkv = attention.qkv(x.flatten(1, 2)).view(2, 15, 3, 4, 32)
        expected = torch.empty(2, 15, 4, 32)
        bias = teacher_module.get_decomposed_rel_pos_bias(
            qkv[:, :, 0].transpose(1, 2).flatten(0, 1), attention.rel_pos_h, attention.rel_pos_w, (3, 5), (3, 5)
        ).view(2, 4, 15, 15)
        for b in range(2):
            for h in range(4):
                keys = torch.cat((qkv[b, :, 1, h], tokens.key_token[h]))
                values = torch.cat((qkv[b, :, 2, h], tokens.value_token[h]))
                offsets = torch.cat((bias[b, h], tokens.token_bias.expand(15, 1)), dim=1)
                expected[b, :, h] = (qkv[b, :, 0, h] @ keys.T / 32**0.5 + offsets).softmax(-1) @ values
        ours = teacher_module._attend(x, attention, tokens)
        assert torch.allclose(ours, attention.proj(expected.flatten(2)).view(2, 3, 5, 128), atol=1e-4)


@pytest.mark.parametrize("recomputes", [False, True])
def test_only_controllers_of_the_batch_get_gradients(awake: SamTeacher, images: Tensor, recomputes: bool) -> None:
    awake.recomputes = recomputes
    awake(images, (8, 8), torch.zeros(3, dtype=torch.int64)).square().mean().backward()
    reached = {name for name, p in awake.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == {name for name, _ in awake.named_parameters() if name.startswith("controllers.0.")}


def test_recomputing_changes_no_gradient(awake: SamTeacher, images: Tensor) -> None:
    def gradients(recomputes: bool) -> Iterator[Tensor]:
        awake.recomputes = recomputes
        awake.zero_grad()
        awake(images, (8, 8), torch.tensor([0, 3, 0])).square().mean().backward()
        return (p.grad.clone() for p in awake.controllers.parameters() if p.grad is not None)

    kept = list(gradients(False))
    assert kept and all(torch.equal(a, b) for a, b in zip(kept, gradients(True), strict=True))


def test_published_sizes() -> None:
    with torch.device("meta"):
        counts = {size: sum(p.numel() for p in SamTeacher([], size).vit.parameters()) for size in ("b", "l", "h")}
    # Of Meta's code, counted by running it.
    assert counts == {"b": 89_670_912, "l": 308_278_272, "h": 637_026_048}
    assert all(TEACHER_SIZES[size].file.startswith(f"sam_vit_{size}_") for size in counts)  # type: ignore[union-attr]


def test_unknown_size() -> None:
    with pytest.raises(ValueError, match=r"Unknown teacher size 'xl'\. Available: tiny, b, l, h"):
        SamTeacher([0], "xl")


def test_prefix_and_nesting_are_accepted(meta_state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model": {f"module.{name}": tensor for name, tensor in meta_state.items()}}, tmp_path / "sam.pth")
    read = read_sam_image_encoder(tmp_path / "sam.pth", "tiny")
    assert torch.equal(read["blocks.0.mlp.fc1.bias"], meta_state["image_encoder.blocks.0.mlp.lin1.bias"])
    assert len(read) == len(meta_state)


def test_faults_of_a_file_are_named(meta_state: dict[str, Tensor], tmp_path: Path) -> None:
    def message(state: dict[str, Tensor], size: str = "tiny") -> str:
        torch.save(state, tmp_path / "sam.pth")
        with pytest.raises(WeightsError) as caught:
            SamTeacher([0], size, tmp_path / "sam.pth")
        return str(caught.value)

    wrong = meta_state | {
        "image_encoder.neck.0.weight": torch.zeros(256, 64, 1, 1),
        "image_encoder.extra": torch.zeros(2),
    }
    del wrong["image_encoder.blocks.3.attn.rel_pos_h"]
    faults = message(wrong)
    assert "missing 'image_encoder.blocks.3.attn.rel_pos_h', expected shape (63, 32)" in faults
    assert "unexpected 'image_encoder.extra' of shape (2,)" in faults
    assert "'image_encoder.neck.0.weight' has shape (256, 64, 1, 1), expected (256, 128, 1, 1)" in faults
    other = {"image_encoder.patch_embed.proj.bias": torch.zeros(1024)}
    assert "a SAM of size 'l' where 'b' was asked for" in message(other, "b")


def test_a_missing_file_says_what_to_download(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"SAM ViT-H at .*none\.pth; .*Download https://.*/sam_vit_h_4b8939\.pth"):
        SamTeacher([0], "h", tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="none"):
        SamTeacher([0], "tiny", tmp_path / "none.pth")


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    (tmp_path / "sam.pth").write_bytes(pickle.dumps({"image_encoder.pos_embed": Evil()}, protocol=2))
    with pytest.raises(WeightsError, match="never run"):
        SamTeacher([0], "tiny", tmp_path / "sam.pth")
    assert not (tmp_path / "ran").exists()
