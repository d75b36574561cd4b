"""The suite behind `make smoke` leaves out no method that another suite names."""

from __future__ import annotations

from pathlib import Path

from harness.config.loading import load_config
from harness.config.yaml_tree import option_names
from harness.methods.crossing import crossed

FOLDER = Path(__file__).parent / "everything"


def names(suite: str) -> set[str]:
    config = load_config([f"suite={suite}"], FOLDER)
    return set(crossed(config.methods, config.algorithms))


def test_everything_holds_every_suite_and_crosses_one_network_alone() -> None:
    """In one test, since every worker would compose it for each test of its own."""
    everything = names("everything")
    for suite in sorted(option_names("suite")):
        assert names(suite) <= everything, suite
    assert {name.partition("+")[0] for name in everything if "+" in name} == {"unet"}
