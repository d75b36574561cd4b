"""The YAML files of the baselines: complete cards, and models that the harness can build and run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml

from harness.errors import UserError
from harness.methods import build_method, check_method_config, stages_of
from harness.tree import config_folder

NAMES = ("unet", "deeplabv3plus", "segformer", "otsu", "mean_mask")


def read(name: str) -> dict[str, Any]:
    text = (config_folder() / "method" / f"{name}.yaml").read_text("utf-8")
    assert text.startswith(f"# @package methods.{name}\n")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


@pytest.mark.parametrize("name", NAMES)
def test_a_method_file_builds_a_method_that_runs(name: str) -> None:
    config = read(name)
    check_method_config(name, config)
    method = build_method(name, config["model"], ["dermoscopy", "xray"]).eval()
    assert stages_of(method)
    with torch.inference_mode():
        logits = method.predict(torch.rand(2, 3, 64, 64), torch.tensor([0, 1]))
    assert logits.shape == (2, 1, 64, 64)


@pytest.mark.parametrize("name", NAMES)
def test_none_is_pretrained_and_none_is_prompted(name: str) -> None:
    card = read(name)["card"]
    assert (card["prompt"], card["pretrained"], card["pretrained_on"]) == ("none", "none", [])


def test_a_wrong_name_in_a_method_file_is_the_user_s_error() -> None:
    with pytest.raises(UserError, match=r"Method 'unet' could not be built.*Did you mean 'unet'"):
        build_method("unet", {**read("unet")["model"], "architecture": "unett"}, ["xray"])
