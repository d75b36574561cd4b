"""Weights in and out: nothing is lost, nothing that does not fit is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.depth import SHALLOW, depth
from support.numbers import nothing_drawn
from torch import Tensor

from delightsam import (
    DeLightSAM,
    WeightsError,
    add_modality,
    from_authors,
    from_authors_files,
    load,
    save,
    save_authors,
    to_authors,
)
from delightsam.weights.published_layout import UNUSED_KEYS
from delightsam.weights.weights_files import read_state_dict

Build = Callable[..., DeLightSAM]
State = dict[str, Tensor]


@depth(SHALLOW)
def test_own_format_round_trip_is_bit_identical(build: Build, tmp_path: Path) -> None:
    model = build(modalities=(1, 4), stem="pixel", preprocessing="minmax", image_size=128)
    save(model, tmp_path / "model.safetensors")
    with nothing_drawn():
        again = load(tmp_path / "model.safetensors")
    assert again.config == model.config and not again.training
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(model(x, torch.tensor([4, 1])), again(x, torch.tensor([4, 1])))
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_authors_round_trip(authors_state: State) -> None:
    model = from_authors(dict.fromkeys((0, 2), authors_state))
    for k in (0, 2):
        exported = to_authors(model, k)
        assert exported.keys() == authors_state.keys()
        for name, tensor in exported.items():
            expected = torch.zeros_like(authors_state[name]) if name in UNUSED_KEYS else authors_state[name]
            assert torch.equal(tensor, expected) and tensor.dtype == expected.dtype, name


def test_controllers_are_taken_from_their_own_file(authors_state: State) -> None:
    other = authors_state | {n: t + 1 for n, t in authors_state.items() if "med" in n and "embed" not in n}
    assert sum(not torch.equal(other[n], authors_state[n]) for n in other) > 50
    model = from_authors({0: authors_state, 5: other})
    assert torch.equal(to_authors(model, 5)["SemiTViT.layers.3.blocks.1.med_dah.fc2.bias"], other["SemiTViT.layers.3.blocks.1.med_dah.fc2.bias"])  # fmt: skip
    first = model.controllers["0"].state_dict()
    second = model.controllers["5"].state_dict()
    assert all(torch.equal(first[n] + 1, second[n]) for n in first if "key_token" not in n)


def test_module_prefix_is_accepted(authors_state: State) -> None:
    plain = from_authors({1: authors_state}).state_dict()
    prefixed = from_authors({1: {f"module.{k}": v for k, v in authors_state.items()}}).state_dict()
    assert all(torch.equal(plain[k], prefixed[k]) for k in plain)


def test_missing_unexpected_and_misshapen_keys_are_named(authors_state: State) -> None:
    state = dict(authors_state)
    del state["mask_query.weight"]
    state["SemiTViT.neck.0.weight"] = torch.zeros(128, 320, 1, 1)
    state["extra.weight"] = torch.zeros(3)
    with pytest.raises(WeightsError) as error:
        from_authors({4: state})
    message = str(error.value)
    assert "modality 4" in message and "3 of 504" in message
    assert "missing 'mask_query.weight', expected shape (7, 256)" in message
    assert "unexpected 'extra.weight' of shape (3,)" in message
    assert "'SemiTViT.neck.0.weight' has shape (128, 320, 1, 1), expected (256, 320, 1, 1)" in message


def test_long_lists_of_errors_are_cut(authors_state: State) -> None:
    with pytest.raises(WeightsError, match=r"and 494 more"):
        from_authors({0: {f"x.{k}": v for k, v in authors_state.items() if False}})


def test_shared_parts_must_agree(authors_state: State) -> None:
    name = "mask_decoder.transformer.layers.1.mlp.lin1.bias"
    other = authors_state | {name: authors_state[name] + 0.25}
    with pytest.raises(WeightsError, match=rf"'{name}' between modality 1 and modality 3 \(largest difference 0\.25\)"):
        from_authors({1: authors_state, 3: other})


def test_numbers_and_emptiness(authors_state: State) -> None:
    with pytest.raises(WeightsError, match="at least one state dict"):
        from_authors({})
    with pytest.raises(WeightsError, match=r"numbers 0 to 6; found \[9\]"):
        from_authors({9: authors_state})
    with pytest.raises(WeightsError, match="flat mapping of names to tensors"):
        from_authors({0: {"model": authors_state}})  # type: ignore[dict-item]


def test_export_needs_the_published_architecture(build: Build) -> None:
    with pytest.raises(WeightsError, match=r"hypernetworks = 'per_modality' \(needs 'shared'\)"):
        to_authors(build(modalities=(0,), queries=7), 0)


def test_first_modalities_of_a_grown_model_can_be_exported(authors_state: State) -> None:
    grown = add_modality(from_authors({2: authors_state}), 6, like=2)
    grown.enable_guess()
    exported = to_authors(grown, 2)
    assert exported.keys() == authors_state.keys()
    assert all(torch.equal(exported[n], authors_state[n]) for n in exported if n not in UNUSED_KEYS)
    with pytest.raises(WeightsError, match=r"Modality 6 was added .* can be exported: \[2\]"):
        to_authors(grown, 6)


def test_files_merge_and_come_back(authors_state: State, tmp_path: Path) -> None:
    """Two published files -> one model -> our file -> their layout again, bit for bit where it is used."""
    other = authors_state | {n: t + 1 for n, t in authors_state.items() if "med_dah" in n}
    torch.save(authors_state, tmp_path / "skin.pth")
    torch.save({f"module.{k}": v for k, v in other.items()}, tmp_path / "eye.pth")
    save(from_authors_files({0: tmp_path / "skin.pth", 3: tmp_path / "eye.pth"}), tmp_path / "both.safetensors")
    both = load(tmp_path / "both.safetensors")
    assert both.config.modalities == (0, 3) and both.config.preprocessing == "authors"
    save_authors(both, 3, tmp_path / "again.pth")
    again = read_state_dict(tmp_path / "again.pth")
    assert list(again.keys() ^ other.keys()) == []
    assert all(torch.equal(again[n], other[n]) for n in other if n not in UNUSED_KEYS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.pth", "both.safetensors", "eye.pth", "skin.pth"]


def test_files_of_another_kind_are_named(authors_state: State, tmp_path: Path) -> None:
    torch.save({"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(32, 3, 1, 1)}, tmp_path / "lite.pth")
    with pytest.raises(WeightsError, match=r"lite\.pth to be a published De-LightSAM checkpoint.*; found LiteMedSAM"):
        from_authors_files({0: tmp_path / "lite.pth"})
    six = authors_state | {"mask_query.weight": torch.zeros(6, 256)}
    torch.save(six, tmp_path / "six.pth")
    with pytest.raises(
        WeightsError, match=r"six\.pth \(modality 0\)[^$]*mask_query.weight' has shape \(6, 256\), expected \(7, 256\)"
    ):
        from_authors_files({0: tmp_path / "six.pth"})


def test_export_as_file_needs_the_preprocessing_of_their_code(authors_state: State, tmp_path: Path) -> None:
    model = from_authors({0: authors_state}, preprocessing="sam")
    with pytest.raises(WeightsError, match="normalises by the preset 'authors'; this model expects 'sam'"):
        save_authors(model, 0, tmp_path / "model.pth")
    assert not list(tmp_path.iterdir())


@depth(SHALLOW)
def test_own_format_errors(build: Build, tmp_path: Path) -> None:
    model = build(modalities=(0,))
    save(model, tmp_path / "ok.safetensors")
    content = (tmp_path / "ok.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    config = json.dumps(model.config.to_dict())
    header = {"format": "delightsam", "version": "99", "config": config}
    save_file(model.state_dict(), tmp_path / "newer.safetensors", metadata=header)
    lesser = {k: v for k, v in model.state_dict().items() if k != "decoder.queries"}
    save_file(lesser, tmp_path / "lesser.safetensors", metadata=header | {"version": "1"})
    save_file(lesser, tmp_path / "odd.safetensors", metadata=header | {"version": "1", "config": '{"colour": 1}'})
    fewer = {k: v for k, v in model.state_dict().items() if not k.startswith("controllers.0.")}
    save_file(fewer, tmp_path / "fewer.safetensors", metadata=header | {"version": "1"})
    save_file(lesser, tmp_path / "words.safetensors", metadata=header | {"version": "one"})
    torch.save(lesser, tmp_path / "other.safetensors")
    (tmp_path / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    for name, word in [
        ("fewer", r"missing 'controllers\.0\."),
        ("words", "header that can't be read"),
        ("other", "it is a PyTorch file"),
        ("lfs", "git lfs pull"),
        ("cut", "no whole safetensors file"),
        ("foreign", "not one of delightsam.save"),
        ("newer", "version 99"),
        ("lesser", "missing 'decoder.queries'"),
        ("odd", "colour"),
        ("absent", "there is none"),
    ]:
        with pytest.raises(WeightsError, match=word):
            load(tmp_path / f"{name}.safetensors")
    with pytest.raises(WeightsError, match="fused"):
        save(model.fuse(), tmp_path / "fused.safetensors")
