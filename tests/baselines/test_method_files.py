"""The YAML files of the baselines: complete cards, and models that the harness can build and run."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.numbers import nothing_drawn

from harness.config.loading import load_config
from harness.config.yaml_tree import config_folder
from harness.errors import UserError
from harness.methods.adapter import MethodAdapter
from harness.methods.building import build_method
from harness.methods.card import check_method_config

SMP = (
    *("unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet"),
    *("segformer", "dpt"),
)
MONAI = ("attention_unet", "swin_unetr", "unetr", "segresnet", "dynunet", "flexible_unet")
NAMES = (*SMP, *MONAI, "otsu", "mean_mask")


@cache
def chosen(name: str, *words: str) -> dict[str, Any]:
    """The configuration of a method in a run."""
    method: dict[str, Any] = load_config([f"method={name}", *words]).methods[name]
    return method


def read(name: str) -> dict[str, Any]:
    text = (config_folder() / "method" / f"{name}.yaml").read_text("utf-8")
    assert text.startswith(f"# @package methods.{name}\n")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


@pytest.mark.parametrize("name", NAMES)
def test_a_method_file_builds_a_method_that_runs(name: str) -> None:
    read(name)
    config = chosen(name)
    check_method_config(name, config)
    with nothing_drawn():
        method = build_method(name, config["model"], ["dermoscopy", "xray"]).eval()
    assert MethodAdapter(method).stages()
    with torch.inference_mode():
        logits = method.predict(torch.rand(1, 3, 64, 64), torch.tensor([0]))
    assert logits.shape == (1, 1, 64, 64)


@pytest.mark.parametrize("name", NAMES)
def test_none_is_pretrained_and_none_is_prompted(name: str) -> None:
    config = chosen(name)
    card = config["card"]
    assert (card["prompt"], card["pretrained"], card["pretrained_on"]) == ("none", "none", [])
    assert config["model"].get("encoder_weights") is None
    if name in (*SMP, *MONAI):
        assert re.search(r"(19|20)\d\d.*(doi:10\.|arXiv:\d)", card["paper"])


def test_all_architectures_of_the_library_have_a_file() -> None:
    import segmentation_models_pytorch as smp

    assert set(SMP) == set(smp.MODEL_ARCHITECTURES_MAPPING)
    assert all(chosen(name)["model"]["architecture"] == name for name in SMP)


def test_pretrained_is_for_all_and_stands_in_the_card(tmp_path: Path) -> None:
    config = load_config(["method=[unet,dpt]", "pretrained=imagenet"])
    for name in ("unet", "dpt"):
        assert config.methods[name]["model"]["encoder_weights"] == "imagenet"
        assert config.methods[name]["card"]["pretrained"] == "encoder: ImageNet"
    one = load_config(["method=[unet,fpn]", f"methods.fpn.model.encoder_weights={tmp_path}/mine.pth"]).methods
    assert [one[name]["card"]["pretrained"] for name in ("unet", "fpn")] == ["none", "encoder: mine.pth"]


def test_a_title_names_the_encoder_that_is_used() -> None:
    words = [
        "methods.pspnet.model.encoder_name=tu-convnext_atto",
        "methods.flexible_unet.model.backbone=efficientnet-b4",
    ]
    cards = {
        name: each["card"]["title"]
        for name, each in load_config(["method=[pspnet,flexible_unet,unet]", *words]).methods.items()
    }
    assert cards == {
        "pspnet": "PSPNet (convnext_atto to 1/8)", "flexible_unet": "FlexibleUNet (efficientnet-b4)", "unet": "U-Net (ResNet-18)",
    }  # fmt: skip


def test_dynunet_is_planned_for_the_training_size() -> None:
    assert chosen("dynunet", "training.image_size=160")["model"]["image_size"] == 160


def test_a_wrong_name_in_a_method_file_is_the_user_s_error() -> None:
    with pytest.raises(UserError, match=r"Method 'unet' could not be built.*Did you mean 'unet'"):
        build_method("unet", {**chosen("unet")["model"], "architecture": "unett"}, ["xray"])
