"""No algorithm waits for the device in its steps, whatever it wraps; what it draws on the CPU is sent without a wait."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.waits import CONFIG, MODALITIES, READ_ONCE, train_on_a_stand_in

from harness.errors import UserError
from harness.methods.building import build_method
from harness.methods.crossing import crossed
from tests.baselines.algorithms.test_all import CARD, FILES, read

pytestmark = pytest.mark.usefixtures("shallow")

TARGETS: dict[str, dict[str, Any]] = {
    "toy": {"_target_": "tests.baselines.algorithms.toy.ToyMethod"},
    "unet": {
        "_target_": "baselines.networks.smp.SmpNetwork",
        "architecture": "unet",
        "encoder_name": "tu-test_resnet",
    },
    "delightsam": {"_target_": "delightsam.training.method.DeLightSAMMethod"},
}
# De-LightSAM names no feature layers, and no last layer.
NEED_LAYERS = ("coral", "dsu", "fishr", "mixstyle")


# The algorithms' own steps are the same around any network. De-LightSAM with what reads its modalities again, and its switches.
ALWAYS = {("irm", "delightsam"), ("sam", "delightsam")}
PAIRS = [
    pytest.param(name, target, marks=() if target == "toy" or (name, target) in ALWAYS else pytest.mark.slow)
    for name in FILES
    for target in TARGETS
]


@pytest.mark.parametrize(("name", "target"), PAIRS)
def test_an_epoch_waits_once(name: str, target: str, tmp_path: Path) -> None:
    pairs = crossed({"one": {"card": CARD, "model": TARGETS[target]}}, {name: copy.deepcopy(read(name))})
    (pair,) = pairs.values()
    if target == "delightsam" and name in NEED_LAYERS:
        with pytest.raises(UserError, match="does not say which"):
            build_method(name, pair["model"], MODALITIES)
        return
    config = replace(CONFIG, epochs=2, **read(name)["training"])
    for epoch in train_on_a_stand_in(build_method(name, pair["model"], MODALITIES), tmp_path, config)[1:]:
        assert epoch.waits == READ_ONCE, epoch.places
