"""Every shipped method can be measured: its parameters and its work are counted."""

from __future__ import annotations

import pytest
import torch

from harness.compose import load_config
from harness.efficiency import count_macs, count_parameters
from harness.methods import build_method
from harness.tree import option_names

MODALITIES = ["dermoscopy", "xray"]


@pytest.mark.parametrize("name", option_names("method"))
def test_the_costs_of_every_shipped_method_can_be_counted(name: str) -> None:
    config = load_config([f"method=[{name}]"]).methods[name]
    method = build_method(name, config["model"], MODALITIES).eval()
    wanted = [parameter.requires_grad for parameter in method.parameters()]
    macs, counts = count_macs(method, torch.rand(1, 3, 64, 64)), count_parameters(method)
    assert [parameter.requires_grad for parameter in method.parameters()] == wanted
    floor = bool(config["card"].get("floor"))
    assert (macs == 0) == (counts["parameters_trainable"] == 0) == floor
    assert counts["parameters_active"] <= counts["parameters_total"]
    if name == "delightsam":
        assert counts["parameters_active"] < counts["parameters_total"], "one controller of two takes part"
