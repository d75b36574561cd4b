"""Weights in and out: nothing is lost, nothing that does not fit is loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from delightsam import DeLightSAM, WeightsError, from_authors, load, save, to_authors
from delightsam.authors import UNUSED_KEYS
from delightsam.checkpoints import read_state_dict

Build = Callable[..., DeLightSAM]
State = dict[str, Tensor]


def test_own_format_round_trip_is_bit_identical(build: Build, tmp_path: Path) -> None:
    model = build(modalities=(1, 4), stem="pixel", preprocessing="minmax", image_size=128)
    save(model, tmp_path / "model.safetensors")
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
    with pytest.raises(WeightsError, match=r"numbers 0 to 6; found 9"):
        from_authors({9: authors_state})
    with pytest.raises(WeightsError, match="flat mapping of names to tensors"):
        from_authors({0: {"model": authors_state}})  # type: ignore[dict-item]


def test_export_needs_the_published_architecture(build: Build) -> None:
    with pytest.raises(WeightsError, match=r"hypernetworks = 'per_modality' \(needs 'shared'\)"):
        to_authors(build(modalities=(0,), queries=7), 0)


def test_pth_files(authors_state: State, tmp_path: Path) -> None:
    torch.save(authors_state, tmp_path / "ok.pth")
    assert read_state_dict(tmp_path / "ok.pth").keys() == authors_state.keys()
    content = (tmp_path / "ok.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    (tmp_path / "lfs.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    (tmp_path / "page.pth").write_text("<!doctype html><html></html>")
    torch.save({"weight": torch.zeros(1), "hook": Danger()}, tmp_path / "code.pth")
    for name, word in [
        ("cut", "truncated"),
        ("lfs", "git lfs pull"),
        ("page", "web page"),
        ("code", "pickled code"),
    ]:
        with pytest.raises(WeightsError, match=word):
            read_state_dict(tmp_path / f"{name}.pth")
    assert "DANGER_WAS_RUN" not in os.environ
    with pytest.raises(WeightsError, match="there is none"):
        read_state_dict(tmp_path / "absent.pth")


class Danger:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return os.putenv, ("DANGER_WAS_RUN", "1")


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
    for name, word in [
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
