"""The suite behind `make smoke` leaves out no method that another suite names."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.loading import load_config
from harness.config.yaml_tree import option_names
from harness.methods.crossing import crossed

FOLDER = Path(__file__).parent / "everything"


def names(suite: str) -> set[str]:
    config = load_config([f"suite={suite}"], FOLDER)
    return set(crossed(config.methods, config.algorithms))


@pytest.fixture(scope="module")
def everything() -> set[str]:
    return names("everything")


@pytest.mark.parametrize("suite", sorted(option_names("suite")))
def test_everything_holds_every_suite(suite: str, everything: set[str]) -> None:
    assert names(suite) <= everything


def test_everything_crosses_one_network_alone(everything: set[str]) -> None:
    assert {name.partition("+")[0] for name in everything if "+" in name} == {"unet"}
