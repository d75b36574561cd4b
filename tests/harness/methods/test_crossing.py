"""Methods crossed with algorithms: names, models, cards, training, and what can't be."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import UserError
from harness.methods.crossing import crossed

METHOD_CARD = {
    "title": "Net", "paper": "A paper", "licence": "MIT", "prompt": "none", "uses_modality": False, "pretrained": "none",
    "pretrained_on": [],
}  # fmt: skip
ALGORITHM_CARD = {"title": "Algorithm", "paper": "Another", "licence": "MIT", "sees_test_images": False}
UNET = {"card": METHOD_CARD, "version": 2, "model": {"_target_": "a.Net", "width": 3}, "training": {"epochs": 4}}
FLOOR = {
    "card": METHOD_CARD,
    "version": 1,
    "model": {"_target_": "a.Floor"},
    "training": {},
    "supports_algorithms": False,
}
ERM = {"card": ALGORITHM_CARD, "version": 1, "model": None, "training": {}}
MIX = {
    "card": {**ALGORITHM_CARD, "title": "Mix"},
    "version": 3,
    "model": {"_target_": "b.Mix", "alpha": 0.1},
    "training": {"epochs": 2, "augmentation": "none"},
}


def test_passes_over_a_tested_image_are_multiplied() -> None:
    mirrored = {**UNET, "card": {**METHOD_CARD, "passes": 4}}
    flips = {**MIX, "card": {**ALGORITHM_CARD, "passes": 2}}
    pairs = crossed({"unet": UNET, "mirrored": mirrored}, {"flips": flips, "mix": MIX})
    assert [pair["card"].get("passes") for pair in pairs.values()] == [2, None, 8, 4]
    with pytest.raises(UserError, match=r"card\.passes=0.* is out of range: expected 1 or more"):
        crossed({"unet": {**UNET, "card": {**METHOD_CARD, "passes": 0}}}, {})


def test_every_method_with_every_algorithm_and_floors_once() -> None:
    pairs = crossed({"unet": UNET, "floor": FLOOR}, {"erm": ERM, "mix": MIX})
    assert list(pairs) == ["unet", "unet+mix", "floor"]
    assert pairs["unet"] is UNET


def test_a_pair_wraps_the_model_and_says_who_it_is() -> None:
    pair = crossed({"unet": UNET}, {"mix": MIX})["unet+mix"]
    assert pair["model"] == {
        "_target_": "b.Mix",
        "alpha": 0.1,
        "method": {"_partial_": True, "_target_": "a.Net", "width": 3},
    }
    assert pair["version"] == "2+3"
    assert pair["card"]["title"] == f"{METHOD_CARD['title']} + Mix"
    assert pair["card"]["algorithm"]["name"] == "mix"
    assert pair["card"]["paper"] == METHOD_CARD["paper"]
    # The algorithm's word on training counts after the method's.
    assert pair["training"] == {"epochs": 2, "augmentation": "none"}


def test_a_trainer_without_content_is_none() -> None:
    assert list(crossed({"unet": {**UNET, "trainer": None}}, {"mix": MIX})) == ["unet+mix"]


def test_without_algorithms_the_methods_alone() -> None:
    assert crossed({"unet": UNET}, {}) == {"unet": UNET}


def test_a_card_says_when_test_images_are_seen() -> None:
    tent = {**MIX, "card": {**MIX["card"], "sees_test_images": True}}
    pairs = crossed({"unet": UNET}, {"mix": MIX, "tent": tent})
    assert [pair["card"]["sees_test_images"] for pair in pairs.values()] == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modle": {}}, r"algorithms\.mix\.modle is unknown\. Did you mean 'model'"),
        ({"model": {"alpha": 1}}, r"algorithms\.mix\.model\._target_ is missing"),
        ({"card": {"title": "Mix"}}, r"algorithms\.mix\.card lacks paper, licence, sees_test_images"),
        (
            {"card": {**ALGORITHM_CARD, "sees_test_images": "maybe"}},
            "sees_test_images=maybe: expected true or false, found 'maybe'",
        ),
    ],
)
def test_a_wrong_file_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        crossed({"unet": UNET}, {"mix": {**MIX, **change}})
