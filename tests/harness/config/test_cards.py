"""Cards and counts that `list` shows: read without composing, and equal to what composing and counting give."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from support.numbers import nothing_drawn

from harness.config.cards import COUNTED_SIZE, algorithm_cards, method_cards, method_counts
from harness.config.loading import load_config
from harness.data.folder.sample import MODALITIES
from harness.efficiency.measure import count_macs, count_parameters
from harness.errors import UserError
from harness.methods.building import build_method
from harness.methods.card import CARD_KEYS, NO_WEIGHTS, SCRATCH, start_of
from harness.methods.crossing import AlgorithmCard

PHOTOGRAPHS = {"sa1b", "SA-1B", "sa_v", "hqseg_44k", "ImageNet-1k"}
"""Collections of natural images that shipped methods name. What else a card names shows patients, cells or tissue."""


def test_every_shipped_card_is_whole() -> None:
    for name, card in method_cards().items():
        assert set(CARD_KEYS) <= set(card), name
        assert not any(isinstance(value, str) and "${" in value for value in card.values()), name
    for name, card in algorithm_cards().items():
        assert {item.name for item in fields(AlgorithmCard)} - {"passes"} == set(card) - {"passes"}, name


def test_the_start_of_every_shipped_method_follows_from_the_data_of_its_weights() -> None:
    for name, card in method_cards().items():
        data, start = set(card["pretrained_on"]), start_of(card)
        if data:
            assert start == ("natural images" if data <= PHOTOGRAPHS else "medical images"), name
        else:
            assert (start in (SCRATCH, NO_WEIGHTS), card["pretrained"]) == (True, "none"), name


def test_methods_with_the_same_weights_have_the_same_start() -> None:
    starts: dict[str, set[tuple[str, ...]]] = {}
    for card in method_cards().values():
        if card["pretrained"] != "none":
            starts.setdefault(card["pretrained"], set()).add((start_of(card), *card["pretrained_on"]))
    assert {weights: len(found) for weights, found in starts.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", ["unet", "pspnet", "flexible_unet", "ablation_one_query"])
def test_a_card_is_that_of_the_composed_method(name: str) -> None:
    assert method_cards()[name] == load_config([f"method={name}"]).methods[name]["card"]


@pytest.mark.parametrize("name", ["unet", "otsu", "delightsam"])
def test_counts_are_those_of_the_method(name: str) -> None:
    config, counts = load_config([f"method={name}"]).methods[name], method_counts()[name]
    with nothing_drawn():  # no count depends on a weight
        method = build_method(name, config["model"], list(MODALITIES)).eval()
    found = count_parameters(method)
    assert (found["parameters_total"], found["parameters_active"]) == (counts.parameters, counts.active)
    macs = count_macs(method, torch.rand(1, 3, COUNTED_SIZE, COUNTED_SIZE))
    assert macs / 1e9 == pytest.approx(counts.gmacs, abs=1e-4)


def test_counts_name_shipped_methods_only() -> None:
    assert set(method_counts()) <= set(method_cards())


def test_a_list_where_lines_are_expected(tmp_path: Path) -> None:
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm" / "mine.yaml").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"mine\.yaml: expected lines of key: value, found a list"):
        algorithm_cards(tmp_path)
