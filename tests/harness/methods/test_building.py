"""The contract of a method: what fits is built, what does not fit is refused before anything is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.cards import method_cards
from harness.config.yaml_tree import option_names
from harness.errors import TrialFailed, UserError
from harness.methods.adapter import MethodAdapter, checked_loss
from harness.methods.building import build_method
from harness.methods.card import CARD_KEYS, check_method_config, start_of
from harness.methods.contract import Method, Stage

CARD = dict.fromkeys(CARD_KEYS, "x") | {
    "prompt": "none",
    "uses_modality": False,
    "pretrained_on": ["x"],
    "start": "natural images",
}
SOUND: dict[str, Any] = {"card": CARD, "version": 1, "model": {"_target_": "toy_methods.TinyConv"}, "training": {}}


def build(name: str, **options: Any) -> Any:
    return build_method("mine", {"_target_": f"toy_methods.{name}", **options}, ["dermoscopy", "xray"])


def test_a_method_is_built_with_the_yamls_arguments_and_the_modalities() -> None:
    method = build("TinyConv", width=3)
    assert isinstance(method, Method)
    assert method.decoder.in_channels == 3
    floor = build_method("otsu", {"_target_": "baselines.trivial.OtsuThreshold"}, ["dermoscopy", "xray"])
    assert floor.count.shape == (2,)


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("toy_methods.TinyConf", {}, "toy_methods has no 'TinyConf'. Did you mean 'TinyConv'?"),
        ("no_such_package.Method", {}, f"there is no module 'no_such_package' in {Path.cwd()} or among the installed"),
        ("toy_methods.deeper.Method", {}, "there is no module 'toy_methods.deeper'"),
        ("toy_needing.Method", {}, "importing toy_needing raised ModuleNotFoundError: No module named 'toy_missing'"),
        ("toy_raising.Method", {}, "importing toy_raising raised ZeroDivisionError: division by zero"),
        ("toy_methods.TinyConv", {"widht": 3}, "widht"),
        ("toy_methods.NotAModule", {}, "gave NotAModule, expected a torch.nn.Module"),
        ("toy_methods.NoPredict", {}, "NoPredict lacks predict. Expected: def predict(self, images, modality)"),
        ("toy_methods.PredictTakesTooMuch", {}, "does not fit. Expected: def predict(self, images, modality)"),
    ],
)
def test_what_does_not_fulfil_the_contract_is_refused_by_name(
    target: str, options: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_needing.py").write_text("import toy_missing")
    (tmp_path / "toy_raising.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError) as caught:
        build_method("mine", {"_target_": target, **options}, ["dermoscopy"])
    assert "Method 'mine'" in str(caught.value)
    assert said in str(caught.value)


def test_a_stage_without_gradient_needs_observe(monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_methods

    monkeypatch.delattr(toy_methods.Floor, "observe")
    with pytest.raises(UserError, match=r"lacks observe. Expected: def observe\(self, batch\)"):
        build("Floor")


def test_without_stages_everything_trains_in_one() -> None:
    assert MethodAdapter(build("TinyConv")).stages() == [Stage("train", 1.0, ("*",), True)]


def test_stages_of_any_class_with_the_same_attributes_are_read() -> None:
    @dataclass
    class Theirs:
        name: str

    class HasStages(torch.nn.Module):
        def stages(self) -> list[Any]:
            return [
                Theirs("first"),
                Stage("second", 2, ("a.*",), False),
                Stage("third", learning_rate={"a": 2.0}, views=3),
            ]

    expected = [Stage("first"), Stage("second", 2.0, ("a.*",), False), Stage("third", 1.0, ("*",), True, {"a": 2.0}, 3)]
    assert MethodAdapter(HasStages()).stages() == expected


@pytest.mark.parametrize("stages", [[], [Stage("a"), Stage("a")], [Stage("a", 0)], [Stage("a", -1), Stage("b")]])
def test_stages_that_make_no_sense_are_refused(stages: list[Stage]) -> None:
    class HasStages(torch.nn.Module):
        def stages(self) -> list[Stage]:
            return stages

    with pytest.raises(UserError, match="at least one, each with a name of its own and share > 0"):
        MethodAdapter(HasStages()).stages()


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Stage("a", learning_rate=0), "learning_rate=0: expected factors above 0"),
        (Stage("a", learning_rate=float("nan")), "expected factors above 0"),
        (Stage("a", learning_rate={"b.*": 0.5, "c.*": -1.0}), "'c.*': -1.0}: expected factors above 0"),
        (Stage("a", views=-1), "views=-1: expected null"),
        (Stage("a", views=1.5), "views=1.5: expected null"),  # type: ignore[arg-type]
    ],
)
def test_rates_and_views_out_of_range_are_refused(stage: Stage, said: str) -> None:
    class HasStages(torch.nn.Module):
        def stages(self) -> list[Stage]:
            return [stage]

    with pytest.raises(UserError, match=re.escape(said)):
        MethodAdapter(HasStages()).stages()


def test_who_is_shown_the_truth_says_so_and_who_says_so_is_shown_it() -> None:
    target = {"_target_": "toy_methods.RepeatsTheTruth"}
    assert build_method("mine", target, ["xray"], prompt="oracle patches").predict_oracle
    with pytest.raises(
        UserError, match=r"shown the true masks, but its card says prompt: none. Expected one of: oracle box"
    ):
        build_method("mine", target, ["xray"])
    with pytest.raises(UserError, match=r"says prompt: oracle box, but TinyConv lacks predict_oracle"):
        build_method("mine", SOUND["model"], ["xray"], prompt="oracle box")


def test_a_sound_method_yaml_passes() -> None:
    check_method_config("mine", SOUND)
    check_method_config("mine", {"card": CARD, "model": SOUND["model"]})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            1,
            "methods.mine=1: expected one of its keys, for example methods.mine.card=... (card, version, model, trainer,",
        ),
        (SOUND | {"modell": {}}, "methods.mine.modell is unknown. Did you mean 'model'?"),
        (SOUND | {"model": {"width": 3}}, "methods.mine.model._target_ is missing"),
        (SOUND | {"model": None}, "methods.mine.model._target_ is missing"),
        (
            SOUND | {"card": {**CARD, "sees_test_image": True}},
            "card.sees_test_image is unknown. Did you mean 'sees_test_images'?",
        ),
        (
            SOUND | {"card": {**CARD, "sees_test_images": "no"}},
            "card.sees_test_images=no: expected true or false, found 'no'",
        ),
        (SOUND | {"card": {"title": "x"}}, "methods.mine.card lacks paper, licence"),
        (
            SOUND | {"card": None},
            "methods.mine.card=null: expected one of its keys, for example methods.mine.card.title=",
        ),
        (
            SOUND | {"card": CARD | {"uses_modality": "guessed"}},
            "methods.mine.card.uses_modality=guessed is unknown: expected one of true, false, inferred.",
        ),
        (
            SOUND | {"card": {**CARD, "start": "medical image"}},
            "methods.mine.card.start=medical image is unknown: expected one of scratch, natural images",
        ),
        (SOUND | {"card": {**CARD, "start": "medical image"}}, "Did you mean 'medical images'?"),
        (SOUND | {"card": {**CARD, "start": "scratch"}}, "start: scratch and pretrained: x contradict each other"),
        (SOUND | {"card": {**CARD, "pretrained": "none"}}, "start: natural images and pretrained: none contradict"),
        (
            SOUND | {"card": {key: value for key, value in CARD.items() if key != "start"}},
            "methods.mine.card.start is missing: the card says pretrained: x",
        ),
        (
            {
                "card": {**CARD, "pretrained": "none", "start": "scratch"},
                "model": SOUND["model"] | {"encoder_weights": "/w"},
            },
            "methods.mine.model.encoder_weights names weights, but the card says pretrained: none",
        ),
        (
            SOUND | {"card": CARD | {"prompt": "click"}},
            "card.prompt=click is unknown: expected one of none, oracle box, oracle point",
        ),
    ],
)
def test_a_mistake_in_a_method_yaml_is_reported_by_its_key(config: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        check_method_config("mine", config)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("card", "start"),
    [
        ({"pretrained": "none"}, "scratch"),
        ({"pretrained": "none", "trivial_baseline": True}, "none"),
        ({"pretrained": "x", "start": "medical images"}, "medical images"),
        ({"pretrained": "x"}, "not stated"),
        ({"pretrained": "not stated", "external": True}, "not stated"),
        ({}, "not stated"),
    ],
)
def test_the_start_follows_from_a_card_where_it_can(card: dict[str, Any], start: str) -> None:
    assert start_of(card) == start


def test_every_shipped_method_states_its_start() -> None:
    starts = {name: start_of(card) for name, card in method_cards().items()}
    assert "not stated" not in starts.values()
    wanted = {"unet": "scratch", "unet_imagenet": "natural images", "otsu": "none", "sam_b": "natural images"}
    wanted |= {"delightsam": "scratch", "delightsam_litemedsam": "medical images", "medsam": "medical images"}
    assert {name: starts[name] for name in wanted} == wanted


def test_cards_are_read_without_importing_a_method(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("card: {title: Mine}\nmodel: {_target_: no_such_package.Method}\n")
    cards = method_cards(tmp_path)
    assert cards["mine"] == {"title": "Mine"}
    assert set(cards) == {*option_names("method"), "mine"}
    assert all(card["title"] for card in cards.values())  # variants inherit the rest of theirs


def test_a_broken_card_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("card: {title: [")
    with pytest.raises(UserError, match=r"mine\.yaml is no valid YAML"):
        method_cards(tmp_path)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (torch.zeros(1, requires_grad=True), "found Tensor"),
        ((torch.zeros(2, requires_grad=True), {}), r"one number; found \(2,\)"),
        ((0.5, {}), "one number; found float"),
        ((torch.zeros(()), {}), "depends on none"),
    ],
)
def test_a_wrong_loss_is_refused_with_the_contract(answer: object, said: str) -> None:
    with pytest.raises(TrialFailed, match=rf"object.training_loss must return \(loss, \{{name: value\}}\).*{said}"):
        checked_loss(object(), answer)
