"""Networks of transformers: its own forward pass is the truth; and what is said when weights can't be had."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from baselines.sam.hub import HubSam
from tests.baselines.sam.tiny import method, squares

BOXES = torch.tensor([[10.0, 10, 49, 29], [3, 40, 8, 49]])
POINTS = torch.tensor([[20.0, 12], [5, 44]])


@pytest.mark.parametrize("family", ["sam", "medsam", "sam_hq", "sam2"])
def test_masks_equal_transformers_own_forward(family: str, weights: dict[str, str]) -> None:
    network = method(family, weights[family]).network
    pixels = network.preprocessing.pixels(squares(2).images)
    with torch.inference_mode():
        embeddings = network.embed(pixels)
        for multimask in (False, True):
            own = network.model(pixel_values=pixels, input_boxes=BOXES.expand(2, -1, -1), multimask_output=multimask)
            at = network.model(
                pixel_values=pixels,
                input_points=POINTS[None, :, None].expand(2, -1, -1, -1),
                multimask_output=multimask,
            )
            for i in range(2):
                for expected, prompts in ((own, BOXES), (at, POINTS)):
                    masks, quality = network.masks(embeddings[i], prompts, multimask)
                    assert expected.pred_masks[i].std() > 1e-3
                    torch.testing.assert_close(masks, expected.pred_masks[i], atol=1e-5, rtol=1e-4)
                    torch.testing.assert_close(quality, expected.iou_scores[i], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "scaling", "keeps_aspect"), [("sam", "sam", True), ("medsam", "minmax", False), ("sam2", "sam", False)]
)
def test_each_is_fed_as_its_authors_do(family: str, scaling: str, keeps_aspect: bool, weights: dict[str, str]) -> None:
    preprocessing = method(family, weights[family]).network.preprocessing
    assert (preprocessing.scaling, preprocessing.keeps_aspect, preprocessing.side) == (scaling, keeps_aspect, 64)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("looked at the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("name", ["facebook/sam-vit-base", "/no/such/folder", "no such name"])
@pytest.mark.usefixtures("no_network")
def test_absent_weights_are_not_fetched_and_the_error_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"neither a folder nor in the local.*hf download.*model\.weights=") as error:
        HubSam(name, "sam")
    assert name in str(error.value)


def test_an_empty_folder_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a folder without config\.json"):
        HubSam(str(tmp_path), "sam")


def test_missing_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install '\.\[sam\]'"):
        HubSam("facebook/sam-vit-base", "sam")


def test_weights_of_another_model(weights: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="model_type 'sam2', expected sam"):
        HubSam(weights["sam2"], "sam")


@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
def test_loading_is_strict(change: str, weights: dict[str, str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(weights["sam"], tmp_path / "sam"))
    state = load_file(folder / "model.safetensors")
    name = "mask_decoder.iou_token.weight"
    if change == "missing":
        del state[name]
    elif change == "unexpected":
        state["mask_decoder.other.weight"] = torch.zeros(3)
    else:
        state[name] = torch.zeros(1, 16)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"does not fit SamModel|can't be read as weights of SamModel"):
        HubSam(str(folder), "sam")


def test_a_damaged_file(weights: dict[str, str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(weights["sam"], tmp_path / "sam"))
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match="can't be read as weights of SamModel"):
        HubSam(str(folder), "sam")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="can't be read as weights of SamModel"):
        HubSam(str(folder), "sam")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="model_type 'bert'"):
        HubSam(str(folder), "sam")
